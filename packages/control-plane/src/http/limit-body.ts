import type { IncomingMessage } from 'node:http';
import { constants, Http2ServerRequest } from 'node:http2';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { errorResponse } from './error-response.ts';

/** For receiving a body: 1 MiB over a poor line. */
export const BODY_TIMEOUT_MS = 60_000;

/**
 * Ends a request whose body does not come to its end, with 408 when it has no answer yet. The listener cannot do it: the one with TLS
 * serves sandboxes as well, whose uploads take as long as they take.
 */
export function limitBody(request: FastifyRequest, reply: FastifyReply, timeoutMs = BODY_TIMEOUT_MS): void {
  // Of either protocol; Fastify's types know one.
  const raw: IncomingMessage | Http2ServerRequest = request.raw;
  if (!hasBody(raw)) return;
  const timer = setTimeout(() => {
    if (raw.complete) return;
    const end = () => {
      if (raw instanceof Http2ServerRequest) raw.stream.close(constants.NGHTTP2_NO_ERROR);
      else raw.socket.destroySoon();
    };
    if (reply.sent) {
      end();
      return;
    }
    // Node says of an answer by HTTP/2 that it is finished when its stream is closed, too late for who closes it.
    (raw instanceof Http2ServerRequest ? raw.stream : reply.raw).once('finish', end);
    const { status, body } = errorResponse('deadline_exceeded', 'The request did not arrive in time.', 408);
    if (raw.httpVersionMajor === 1) reply.header('Connection', 'close');
    void reply.code(status).send(body);
  }, timeoutMs).unref();
  raw.once('end', () => clearTimeout(timer));
  raw.once('close', () => clearTimeout(timer));
}

function hasBody(raw: IncomingMessage | Http2ServerRequest): boolean {
  if (raw instanceof Http2ServerRequest) return !raw.stream.endAfterHeaders;
  const { 'content-length': length, 'transfer-encoding': encoding } = raw.headers;
  return encoding !== undefined || (length !== undefined && length !== '0');
}
