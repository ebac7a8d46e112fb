import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { Socket } from 'node:net';
import type { Logger } from '@nestbox/kit';
import { badAddress, type EdgeError, edgeErrorOnWire, edgeFailure } from './edge-error.ts';
import { answerError, forwardRequest } from './forward-request.ts';
import { forwardUpgrade } from './forward-upgrade.ts';
import { type EdgeDirectory, type Resolution, resolveTarget } from './resolve-target.ts';

/** Source: host-side contract of the proxies; load balancers in front keep idle connections for less. */
const HEADERS_TIMEOUT_MS = 10_000;
const KEEP_ALIVE_MS = 620_000;
const KEEP_ALIVE_PROBE_MS = 60_000;
/** Cookies and tokens of applications; what is longer gets 431. */
const MAX_HEADER_BYTES = 64 * 1024;
const STREAM_BUFFER_BYTES = 256 * 1024;

/** The public way into sandboxes, not listening yet. `tunnels` holds the sockets that have left HTTP behind. */
export function createEdgeServer(directory: EdgeDirectory, tunnels: Set<Socket>, logger: Logger): Server {
  const server = createServer({
    maxHeaderSize: MAX_HEADER_BYTES,
    headersTimeout: HEADERS_TIMEOUT_MS,
    connectionsCheckingInterval: HEADERS_TIMEOUT_MS / 2,
    keepAliveTimeout: KEEP_ALIVE_MS,
    // Uploads and streams take as long as they take.
    requestTimeout: 0,
    noDelay: true,
    // Finds clients that vanished without a word, behind tunnels that may be silent for hours.
    keepAlive: true,
    keepAliveInitialDelay: KEEP_ALIVE_PROBE_MS,
    highWaterMark: STREAM_BUFFER_BYTES,
    // HTTP/2 in clear text is an offer that may be ignored; the guest sees the request as HTTP/1.1.
    shouldUpgradeCallback: (request) => request.headers.upgrade?.toLowerCase() !== 'h2c',
  });
  server.on('request', (request, response) => {
    void resolveOrFail(directory, request, logger, (resolution) => {
      if (response.destroyed) return;
      if ('error' in resolution) answerError(response, resolution.error);
      else forwardRequest(resolution.target, request, response, logger);
    });
  });
  server.on('upgrade', (request, socket: Socket, head) => {
    tunnels.add(socket);
    socket.once('close', () => tunnels.delete(socket));
    // Until it is forwarded, nobody else listens for this.
    socket.on('error', () => socket.destroy());
    void resolveOrFail(directory, request, logger, (resolution) => {
      if (socket.destroyed) return;
      if ('error' in resolution) socket.end(edgeErrorOnWire(resolution.error));
      else forwardUpgrade(resolution.target, request, socket, head, logger);
    });
  });
  server.on('clientError', answerBrokenRequest);
  return server;
}

/** Never rejects: what goes wrong on the way, in `proceed` too, becomes an answer of this one request. */
async function resolveOrFail(
  directory: EdgeDirectory,
  request: IncomingMessage,
  logger: Logger,
  proceed: (resolution: Resolution) => void,
): Promise<void> {
  try {
    proceed(await resolveTarget(directory, request));
  } catch (error) {
    logger.error({ err: error }, 'The edge failed to serve a request');
    proceed({ error: edgeFailure() });
  }
}

/** For what is not HTTP, or comes too slowly: node has no request object for it. */
function answerBrokenRequest(error: Error & { code?: string }, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) socket.destroy();
  else socket.end(edgeErrorOnWire(describeBrokenRequest(error.code)));
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
