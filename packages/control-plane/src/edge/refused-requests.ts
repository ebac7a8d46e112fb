import type { EventEmitter } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { Http2ServerRequest, Http2ServerResponse } from 'node:http2';
import type { Duplex } from 'node:stream';
import type { ErrorCode } from '@nestbox/contract';
import { answerError, badAddress, type EdgeError, edgeErrorOnWire } from './edge-error.ts';
import { Http2Exchange } from './http2-exchange.ts';
import { BROKEN_LINGER_MS } from './listener-limits.ts';

/** For what is not HTTP, or comes too slowly: Node has no request object for it. */
export function answerBrokenRequest(error: Error & { code?: string }, socket: Duplex): void {
  const isHttp = error.code?.startsWith('HPE_') === true || error.code?.startsWith('ERR_HTTP_') === true;
  if (isHttp && socket.writable) endWith(socket, describeBrokenRequest(error.code));
  else socket.destroy();
}

/** Answers requests to become a tunnel, which come with a socket by HTTP/1.1 and with a response by HTTP/2. */
export function refuseTunnels(server: EventEmitter): void {
  const error = refusal(
    405,
    'method_not_allowed',
    'This server is no proxy for other places: it does not answer CONNECT.',
  );
  server.on('connect', (request: IncomingMessage | Http2ServerRequest, answer: Duplex | Http2ServerResponse) => {
    if (!(answer instanceof Http2ServerResponse)) endWith(answer, error);
    else if (request instanceof Http2ServerRequest) answerError(new Http2Exchange(request, answer), error);
  });
}

/** Why a request with a good head is not to be served; undefined when it is. Sources: RFC 9112, section 3.2; RFC 9110, section 10.1.1. */
export function refusalOf({ headers, httpVersion }: IncomingMessage | Http2ServerRequest): EdgeError | undefined {
  if (httpVersion === '1.1' && headers.host === undefined) return badAddress('The request has no Host header.');
  if (headers.expect !== undefined && httpVersion !== '1.0' && headers.expect.toLowerCase() !== '100-continue')
    return refusal(417, 'invalid_request', 'Of what "Expect" may ask, only "100-continue" is understood here.');
  return undefined;
}

/** The socket's last words. */
export function endWith(socket: Duplex, error: EdgeError): void {
  socket.on('error', () => socket.destroy());
  socket.end(edgeErrorOnWire(error));
  // Who keeps on sending, or never reads the answer, is not waited for.
  const timer = setTimeout(() => socket.destroy(), BROKEN_LINGER_MS).unref();
  socket.once('close', () => clearTimeout(timer));
}

function describeBrokenRequest(code: string | undefined): EdgeError {
  if (code === 'HPE_HEADER_OVERFLOW') return refusal(431, 'payload_too_large', 'The headers are too large.');
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT')
    return refusal(408, 'deadline_exceeded', 'The request did not arrive in time.');
  return badAddress('The request is not valid HTTP/1.1.');
}

function refusal(status: number, errorCode: ErrorCode, message: string): EdgeError {
  return { status, body: { code: status, message, error_code: errorCode } };
}
