import { once } from 'node:events';
import type { Socket } from 'node:net';
import type { ListenAddress } from '../config.ts';
import { boundUrl } from '../listen-url.ts';
import type { EdgeHandler } from './edge-handler.ts';
import { createEdgeServer } from './edge-server.ts';

export interface Edge {
  readonly url: string;
  /** Ends every connection, tunnels too. */
  close(): Promise<void>;
}

/** Listens for requests to sandboxes in clear text. Rejects when the address cannot be had. */
export async function openEdge(address: ListenAddress, handler: EdgeHandler): Promise<Edge> {
  const tunnels = new Set<Socket>();
  const server = createEdgeServer(handler, tunnels);
  server.listen(address.port, address.host);
  await once(server, 'listening');
  return {
    url: boundUrl(server),
    close: async () => {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      for (const socket of tunnels) socket.destroy();
      await closed;
    },
  };
}
