import { Agent, type RequestOptions } from 'node:http';
import type { HostConnection, ProxyAddress } from '../config.ts';

/** Idle connections to a host's proxy are closed sooner than the proxy would (620 s). */
const IDLE_MS = 60_000;
const MAX_IDLE_CONNECTIONS = 64;
/** For a proxy on another machine; a unix socket answers at once or not at all. */
export const CONNECT_TIMEOUT_MS = 10_000;

/** How to reach one host's proxy. */
export interface HostProxy {
  readonly hostId: string;
  /** For `http.request`: address and the connections kept for this host alone. */
  readonly connection: Pick<RequestOptions, 'socketPath' | 'host' | 'port' | 'agent'>;
}

/** The connections of the edge to the hosts' proxies: a pool a host, shared with nothing else. */
export class HostProxies {
  readonly #proxies = new Map<string, { readonly proxy: HostProxy; readonly agent: Agent }>();

  constructor(hosts: readonly Pick<HostConnection, 'id' | 'proxyAddress'>[]) {
    for (const { id, proxyAddress } of hosts) {
      // The agent's time-out ends idle sockets; on one in use it is no more than an event that nobody listens to.
      const agent = new Agent({ keepAlive: true, maxFreeSockets: MAX_IDLE_CONNECTIONS, timeout: IDLE_MS });
      this.#proxies.set(id, { agent, proxy: { hostId: id, connection: { ...address(proxyAddress), agent } } });
    }
  }

  find(hostId: string): HostProxy | undefined {
    return this.#proxies.get(hostId)?.proxy;
  }

  /** Closes every connection, those in use too. */
  close(): void {
    for (const { agent } of this.#proxies.values()) agent.destroy();
  }
}

function address(proxy: ProxyAddress): Pick<RequestOptions, 'socketPath' | 'host' | 'port'> {
  return 'socketPath' in proxy ? { socketPath: proxy.socketPath } : { host: proxy.host, port: proxy.port };
}
