import { type ClientRequest, request as httpRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import { pipeline } from 'node:stream';
import { endToEndHeaders, rewriteLocations } from './headers.ts';
import type { Upstream } from './host-proxy.ts';
import { sendProxyError, upstreamFailed } from './proxy-error.ts';

/** Methods for which Node sends no body unless told to. */
const BODILESS_METHODS = new Set(['GET', 'HEAD', 'DELETE', 'OPTIONS', 'TRACE', 'CONNECT']);
/** May be sent again when an idle connection turns out to be closed. Source: RFC 9110, section 9.2.2. */
const REPEATABLE_METHODS = new Set(['GET', 'HEAD', 'OPTIONS']);

/**
 * Sends a request on to the application and its answer back, streaming both ways. When either side goes away the other
 * is ended too. The Host header stays the client's own.
 */
export function forwardRequest(request: IncomingMessage, response: ServerResponse, upstream: Upstream): void {
  const hasBody = request.headers['content-length'] !== undefined || request.headers['transfer-encoding'] !== undefined;
  const headers = requestHeaders(request, upstream, hasBody);
  const endActivity = upstream.beginActivity();
  let outgoing: ClientRequest | undefined;

  const refuse = (error: unknown) => {
    closeUnlessBodyArrives(request, response);
    sendProxyError(response, upstreamFailed(error, upstream.target));
  };

  const send = (mayRepeat: boolean) => {
    const attempt = openUpstream(request, upstream, headers);
    outgoing = attempt;
    let answered = false;
    attempt.on('continue', () => response.writeContinue());
    attempt.once('response', (incoming) => {
      answered = true;
      try {
        relayResponse(request, response, incoming, upstream);
      } catch (error) {
        attempt.destroy();
        refuse(error);
      }
    });
    attempt.on('error', (error) => {
      // Once the answer began, its own end tells the client.
      if (answered || response.destroyed) return;
      // The application closed a connection that had waited, just as we took it.
      if (mayRepeat && attempt.reusedSocket) send(false);
      else refuse(error);
    });
    if (!hasBody) {
      attempt.end();
      return;
    }
    // The application may want to answer from the head alone, and `Expect` waits for it.
    attempt.flushHeaders();
    request.pipe(attempt);
  };

  response.once('close', () => {
    endActivity();
    if (!response.writableFinished) outgoing?.destroy();
  });
  request.once('close', () => {
    if (!request.complete) outgoing?.destroy();
  });
  // A client that went away is told by 'close', which follows.
  request.on('error', () => {});
  response.on('error', () => {});
  send(!hasBody && REPEATABLE_METHODS.has(request.method ?? ''));
}

export function openUpstream(request: IncomingMessage, upstream: Upstream, headers: readonly string[]): ClientRequest {
  return httpRequest({
    host: upstream.address,
    port: upstream.target.port,
    method: request.method ?? 'GET',
    path: upstream.target.path,
    headers,
    agent: upstream.pool,
    maxHeaderSize: MAX_HEADER_BYTES,
  });
}

/** Node's default of 16 KiB is less than what large cookies need. */
export const MAX_HEADER_BYTES = 64 * 1024;

function requestHeaders(request: IncomingMessage, upstream: Upstream, hasBody: boolean): string[] {
  const headers = endToEndHeaders(request.rawHeaders, request.headers.connection);
  if (request.headers.host === undefined) headers.push('Host', `localhost:${upstream.target.port}`);
  if (request.headers['transfer-encoding'] !== undefined) headers.push('Transfer-Encoding', 'chunked');
  else if (!hasBody && !BODILESS_METHODS.has(request.method ?? 'GET')) headers.push('Content-Length', '0');
  return headers;
}

function relayResponse(
  request: IncomingMessage,
  response: ServerResponse,
  incoming: IncomingMessage,
  upstream: Upstream,
): void {
  const headers = endToEndHeaders(incoming.rawHeaders, incoming.headers.connection);
  if (incoming.headers.location !== undefined)
    rewriteLocations(headers, {
      hosts: upstream.guestNames,
      port: upstream.target.port,
      requestHost: request.headers.host,
    });
  closeUnlessBodyArrives(request, response);
  response.sendDate = false;
  response.writeHead(incoming.statusCode ?? 502, incoming.statusMessage, headers);
  // A head without body bytes behind it is sent alone: streams of events are seen to be open at once.
  let bodyBegan = false;
  incoming.once('data', () => {
    bodyBegan = true;
  });
  setImmediate(() => {
    if (!bodyBegan && !response.writableEnded) response.flushHeaders();
  });
  // Cuts the client's connection when the application's answer breaks off.
  pipeline(incoming, response, () => {});
}

/** After `Expect` without a 100, the client may never send its body: what comes next cannot be told from it. */
function closeUnlessBodyArrives(request: IncomingMessage, response: ServerResponse): void {
  if (request.headers.expect !== undefined && !request.complete && !response.headersSent)
    response.shouldKeepAlive = false;
}
