import { once } from 'node:events';
import type { Socket } from 'node:net';
import type { ListenAddress } from '../config.ts';
import { boundUrl } from '../listen-url.ts';
import type { EdgeHandler } from './edge-handler.ts';
import { createEdgeServer } from './edge-server.ts';

/** What a pause gives them: host-agent/src/proxy/host-proxy.ts. */
const DRAIN_MS = 2000;

export interface Edge {
  readonly url: string;
  /** Takes no new connections, and gives the requests under way as much time as a pause of their sandbox would. */
  drain(): Promise<void>;
  /** Ends every connection; tunnels are given what was written to them. */
  close(): Promise<void>;
}

/** Listens for requests to sandboxes in clear text. Rejects when the address cannot be had. */
export async function openEdge(address: ListenAddress, handler: EdgeHandler): Promise<Edge> {
  const tunnels = new Set<Socket>();
  const server = createEdgeServer(handler, tunnels);
  server.listen(address.port, address.host);
  await once(server, 'listening');
  const { promise: closed, resolve } = Promise.withResolvers<void>();
  server.once('close', resolve);
  return {
    url: boundUrl(server),
    drain: async () => {
      server.close();
      await handler.requests.ended(DRAIN_MS);
    },
    close: async () => {
      if (server.listening) server.close();
      server.closeAllConnections();
      for (const socket of tunnels) socket.destroySoon();
      await closed;
    },
  };
}
