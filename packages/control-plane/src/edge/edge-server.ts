import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { Http1Exchange, http1Upgrade, UNCOUNTED } from '@nestbox/kit';
import { answerError } from './edge-error.ts';
import type { EdgeHandler } from './edge-handler.ts';
import { HTTP1_OPTIONS, isUpgradeToForward, KEEP_ALIVE_PROBE_MS } from './listener-limits.ts';
import { answerBrokenRequest, endWith, refusalOf, refuseTunnels } from './refused-requests.ts';

/** The public way into sandboxes in clear text, not listening yet. `tunnels` holds the sockets that have left HTTP behind. */
export function createEdgeServer(handler: EdgeHandler, tunnels: Set<Socket>): Server {
  const server = createServer({
    ...HTTP1_OPTIONS,
    noDelay: true,
    // Finds clients that vanished without a word, behind tunnels that may be silent for hours.
    keepAlive: true,
    keepAliveInitialDelay: KEEP_ALIVE_PROBE_MS,
    shouldUpgradeCallback: isUpgradeToForward,
  });
  server.maxHeadersCount = UNCOUNTED;
  const serve = (request: IncomingMessage, response: ServerResponse) => {
    const exchange = new Http1Exchange(request, response);
    const refusal = refusalOf(request);
    if (refusal === undefined) handler.handle(exchange);
    else answerError(exchange, refusal);
  };
  for (const event of ['request', 'checkContinue', 'checkExpectation']) server.on(event, serve);
  server.on('upgrade', (request: IncomingMessage, socket: Socket, head: Buffer) => {
    tunnels.add(socket);
    socket.once('close', () => tunnels.delete(socket));
    const refusal = refusalOf(request);
    if (refusal === undefined) handler.handleUpgrade(http1Upgrade(request, socket, head));
    else endWith(socket, refusal);
  });
  server.on('clientError', answerBrokenRequest);
  refuseTunnels(server);
  return server;
}
