import type { ExchangeHandler } from '@nestbox/kit';
import type { HostConnection } from '../config.ts';
import { RemoteProxy } from './remote-proxy.ts';

/** The ways from the edge to the hosts' proxies. */
export class HostProxies {
  readonly #proxies = new Map<string, ExchangeHandler>();
  readonly #remote: RemoteProxy[] = [];

  constructor(
    hosts: readonly Pick<HostConnection, 'id' | 'proxyAddress'>[],
    onFailure: (hostId: string, error: Error) => void,
  ) {
    for (const { id, proxyAddress } of hosts) {
      if ('handler' in proxyAddress) this.#proxies.set(id, proxyAddress.handler);
      else {
        const remote = new RemoteProxy(proxyAddress, (error) => onFailure(id, error));
        this.#proxies.set(id, remote);
        this.#remote.push(remote);
      }
    }
  }

  find(hostId: string): ExchangeHandler | undefined {
    return this.#proxies.get(hostId);
  }

  /** Closes every connection, those in use too. */
  close(): void {
    for (const proxy of this.#remote) proxy.close();
  }
}
