import { once } from 'node:events';
import type { Socket } from 'node:net';
import type { Logger } from '@nestbox/kit';
import type { HostConnection, ListenAddress } from '../config.ts';
import { boundUrl } from '../listen-url.ts';
import type { AccessTokens } from '../service/access-tokens.ts';
import type { SandboxRoutes } from '../service/sandbox-routes.ts';
import { createEdgeServer } from './edge-server.ts';
import { HostProxies } from './host-proxies.ts';
import type { EdgeDirectory } from './resolve-target.ts';

export interface EdgeConfig {
  readonly address: ListenAddress;
  readonly hosts: readonly Pick<HostConnection, 'id' | 'proxyAddress'>[];
  readonly routes: SandboxRoutes;
  readonly tokens: AccessTokens;
  readonly wake: EdgeDirectory['wake'];
  readonly logger: Logger;
}

export interface Edge {
  readonly url: string;
  /** Ends every connection, tunnels too. */
  close(): Promise<void>;
}

/** Listens for requests to sandboxes. Rejects when the address cannot be had. */
export async function openEdge({ address, hosts, routes, tokens, wake, logger }: EdgeConfig): Promise<Edge> {
  const proxies = new HostProxies(hosts);
  const tunnels = new Set<Socket>();
  const server = createEdgeServer({ routes, tokens, proxies, wake }, tunnels, logger);
  server.listen(address.port, address.host);
  await once(server, 'listening');
  return {
    url: boundUrl(server),
    close: async () => {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      for (const socket of tunnels) socket.destroy();
      proxies.close();
      await closed;
    },
  };
}
