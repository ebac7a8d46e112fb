import type { EventEmitter } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { type Http2ServerRequest, Http2ServerResponse } from 'node:http2';
import type { Duplex } from 'node:stream';
import { badAddress, type EdgeError, edgeErrorOnWire } from './edge-error.ts';
import { BROKEN_LINGER_MS } from './listener-limits.ts';

/** For what is not HTTP, or comes too slowly: Node has no request object for it. */
export function answerBrokenRequest(error: Error & { code?: string }, socket: Duplex): void {
  const isHttp = error.code?.startsWith('HPE_') === true || error.code?.startsWith('ERR_HTTP_') === true;
  if (isHttp && socket.writable) endWith(socket, describeBrokenRequest(error.code));
  else socket.destroy();
}

/** Answers requests to become a tunnel, which come with a socket by HTTP/1.1 and with a response by HTTP/2. */
export function refuseTunnels(server: EventEmitter): void {
  server.on('connect', (_request: unknown, answer: Duplex | Http2ServerResponse) => {
    const message = 'This server is no proxy for other places: it does not answer CONNECT.';
    const error: EdgeError = { status: 405, body: { code: 405, message, error_code: 'method_not_allowed' } };
    if (!(answer instanceof Http2ServerResponse)) endWith(answer, error);
    else answer.writeHead(error.status, { 'content-type': 'application/json' }).end(JSON.stringify(error.body));
  });
}

/** Why a request with a good head is not to be served; undefined when it is. Sources: RFC 9112, section 3.2; RFC 9110, section 10.1.1. */
export function refusalOf(request: IncomingMessage | Http2ServerRequest): EdgeError | undefined {
  const { headers, httpVersion } = request;
  if (httpVersion === '1.1' && headers.host === undefined) return badAddress('The request has no Host header.');
  if (headers.expect !== undefined && httpVersion !== '1.0' && headers.expect.toLowerCase() !== '100-continue') {
    const message = 'Of what "Expect" may ask, only "100-continue" is understood here.';
    return { status: 417, body: { code: 417, message, error_code: 'invalid_request' } };
  }
  return undefined;
}

/** The socket's last words. */
export function endWith(socket: Duplex, error: EdgeError): void {
  socket.on('error', () => socket.destroy());
  socket.end(edgeErrorOnWire(error));
  // Who keeps on sending, or never reads the answer, is not waited for.
  setTimeout(() => socket.destroy(), BROKEN_LINGER_MS).unref();
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
