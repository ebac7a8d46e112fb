import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { Socket } from 'node:net';
import { Http1Exchange, http1Upgrade, UNCOUNTED } from '@nestbox/kit';
import { badAddress, type EdgeError, edgeErrorOnWire } from './edge-error.ts';
import type { EdgeHandler } from './edge-handler.ts';
import { BROKEN_LINGER_MS, HTTP1_OPTIONS, isUpgradeToForward, KEEP_ALIVE_PROBE_MS } from './listener-limits.ts';

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
  server.on('request', (request, response) => handler.handle(new Http1Exchange(request, response)));
  server.on('checkContinue', (request, response) => handler.handle(new Http1Exchange(request, response)));
  server.on('upgrade', (request: IncomingMessage, socket: Socket, head: Buffer) => {
    tunnels.add(socket);
    socket.once('close', () => tunnels.delete(socket));
    handler.handleUpgrade(http1Upgrade(request, socket, head));
  });
  server.on('clientError', answerBrokenRequest);
  return server;
}

/** For what is not HTTP, or comes too slowly: Node has no request object for it. */
export function answerBrokenRequest(error: Error & { code?: string }, socket: Socket): void {
  const isHttp = error.code?.startsWith('HPE_') === true || error.code?.startsWith('ERR_HTTP_') === true;
  if (!isHttp || !socket.writable) {
    socket.destroy();
    return;
  }
  socket.end(edgeErrorOnWire(describeBrokenRequest(error.code)));
  // Who keeps on sending, or never reads the answer, is not waited for.
  socket.setTimeout(BROKEN_LINGER_MS, () => socket.destroy());
}

function describeBrokenRequest(code: string | undefined): EdgeError {
  if (code === 'HPE_HEADER_OVERFLOW')
    return { status: 431, body: { code: 431, message: 'The headers are too large.', error_code: 'payload_too_large' } };
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT')
    return {
      status: 408,
      body: { code: 408, message: 'The request did not arrive in time.', error_code: 'deadline_exceeded' },
    };
  return badAddress('The request is not valid HTTP/1.1.');
}
