import { type ClientRequest, type IncomingMessage, request as openRequest, type ServerResponse } from 'node:http';
import type { Logger } from '@nestbox/kit';
import { brokenAnswer, type EdgeError, edgeErrorResponse, hostUnreachable } from './edge-error.ts';
import { endToEndHeaders, requestHeaders } from './forwarded-headers.ts';
import { CONNECT_TIMEOUT_MS } from './host-proxies.ts';
import type { EdgeTarget } from './resolve-target.ts';

/** What may be sent again without knowing what became of it. Source: RFC 9110, section 9.2.2, the safe ones alone. */
const REPEATABLE_METHODS = new Set(['GET', 'HEAD', 'OPTIONS']);

/**
 * Sends a request on to the host's proxy and its answer back, both as streams: a slow reader on either side slows the
 * other one, nothing is collected. When one side goes away the other is ended too.
 */
export function forwardRequest(
  target: EdgeTarget,
  request: IncomingMessage,
  response: ServerResponse,
  logger: Logger,
): void {
  const hasBody = request.headers['transfer-encoding'] !== undefined || Number(request.headers['content-length']) > 0;
  const { sandboxId } = target.address;
  const mayRepeat = !hasBody && REPEATABLE_METHODS.has(request.method ?? '');
  let upstream: ClientRequest;
  let retried = false;
  const send = () => {
    upstream = openUpstream(target, request);
    upstream.once('response', (answer) => forwardAnswer(answer, response, sandboxId));
    // Nobody asked to change the protocol: without this listener node would close the socket and say nothing.
    upstream.once('upgrade', (_answer, socket) => {
      socket.destroy();
      answerError(response, brokenAnswer(sandboxId));
    });
    upstream.once('error', (error) => {
      if (response.destroyed || response.headersSent) {
        response.destroy();
      } else if (mayRepeat && !retried && upstream.reusedSocket && isReset(error)) {
        // Most likely an idle connection that the proxy closed at the same moment.
        retried = true;
        send();
      } else {
        logger.warn({ err: error, hostId: target.proxy.hostId }, "A host's proxy cannot be reached");
        request.unpipe();
        answerError(response, hostUnreachable(sandboxId));
      }
    });
    if (hasBody) request.pipe(upstream);
    else upstream.end();
  };
  response.once('close', () => {
    if (!response.writableFinished) upstream.destroy();
  });
  request.on('error', () => {
    // The client went away in the middle of its body; the response's `close` ends the rest.
  });
  send();
}

function openUpstream(target: EdgeTarget, request: IncomingMessage): ClientRequest {
  const upstream = openRequest({
    ...target.proxy.connection,
    method: request.method ?? 'GET',
    path: target.path,
    headers: requestHeaders(request),
    setDefaultHeaders: false,
  });
  upstream.once('socket', (socket) => {
    socket.setNoDelay(true);
    if (!socket.connecting) return;
    const timer = setTimeout(() => socket.destroy(new Error('The connection took too long.')), CONNECT_TIMEOUT_MS);
    const settled = () => clearTimeout(timer);
    socket.once('connect', settled).once('close', settled);
  });
  return upstream;
}

function forwardAnswer(answer: IncomingMessage, response: ServerResponse, sandboxId: string): void {
  // The client may have gone, and then `close` has come and gone too.
  if (response.destroyed) {
    answer.destroy();
    return;
  }
  answer.on('error', () => response.destroy());
  response.sendDate = false;
  try {
    response.writeHead(
      answer.statusCode ?? 502,
      answer.statusMessage,
      endToEndHeaders(answer.rawHeaders, answer.headers.connection),
    );
  } catch {
    // The parser lets a few things through that may not be sent, such as a status below 100.
    answer.destroy();
    response.sendDate = true;
    answerError(response, brokenAnswer(sandboxId));
    return;
  }
  answer.pipe(response);
  // A body that came along with the head has been written by then, in the same packet; an event stream that says
  // nothing yet must still get its head through.
  setImmediate(() => {
    if (!response.destroyed) response.flushHeaders();
  });
}

export function answerError(response: ServerResponse, error: EdgeError): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const { status, headers, text } = edgeErrorResponse(error);
  response.writeHead(status, headers).end(text);
}

function isReset(error: Error): boolean {
  return 'code' in error && (error.code === 'ECONNRESET' || error.code === 'EPIPE');
}
