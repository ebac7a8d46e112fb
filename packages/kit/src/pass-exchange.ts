import { type ClientRequest, type IncomingMessage, request as openRequest, type RequestOptions } from 'node:http';
import type { HttpAnswer, HttpExchange } from './http-exchange.ts';
import { hasUnknownCoding } from './http-headers.ts';
import { passBody } from './pass-body.ts';
import { tapOf } from './socket-tap.ts';

/** May be sent again when an idle connection turns out to be closed. Source: RFC 9110, section 9.2.2, the safe ones alone. */
const REPEATABLE_METHODS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS']);

/** Node announces a chunked body for these unless told that there is none. */
const METHODS_WITH_BODY: ReadonlySet<string> = new Set(['POST', 'PUT', 'PATCH']);

/** Node's default of 16 KiB is less than what the cookies and tokens of applications need. */
export const MAX_HEADER_BYTES = 64 * 1024;

/** For Node's `maxHeadersCount`, which would drop those after the first 1,000 without a word. Their size is limited. */
export const UNCOUNTED = 0;

/** The other side answered, but nothing that can be passed on. */
export class BrokenAnswerError extends Error {
  override readonly name = 'BrokenAnswerError';
}

/** The next hop of an exchange. */
export interface Passage {
  readonly address: Pick<RequestOptions, 'host' | 'port' | 'socketPath' | 'agent'>;
  readonly path: string;
  /** Name, value, name, value…, without what tells the length of the body. */
  readonly headers: string[];
  /** The headers of the answer, for the client. */
  answerHeaders(incoming: IncomingMessage): string[];
  /** There is no answer, and none has been begun: the caller gives one. */
  failed(error: Error): void;
}

/**
 * Sends a request on and its answer back, both as streams: a slow reader on either side slows the other one, nothing is
 * collected. When one side goes away the other is ended too.
 */
export function passExchange(exchange: HttpExchange, passage: Passage): void {
  const { method, hasBody, answer, body } = exchange;
  const options = {
    ...passage.address,
    method,
    path: passage.path,
    headers: sayLength(exchange, passage.headers),
    setDefaultHeaders: false,
    maxHeaderSize: MAX_HEADER_BYTES,
  };
  const mayRepeat = !hasBody && REPEATABLE_METHODS.has(method);
  let outgoing: ClientRequest;

  const send = () => {
    const attempt = openRequest(options);
    outgoing = attempt;
    attempt.maxHeadersCount = UNCOUNTED;
    attempt.once('socket', (socket) => tapOf(socket)?.expectHead());
    attempt.once('response', (incoming) => relayAnswer(exchange, attempt, incoming, passage));
    if (exchange.headers.expect !== undefined) attempt.on('continue', () => answer.continue());
    // Nobody asked to change the protocol: without this listener Node would close the socket and say nothing.
    attempt.once('upgrade', (_incoming, socket) => {
      socket.destroy();
      refuse(exchange, passage, new BrokenAnswerError('it changed the protocol unasked'));
    });
    attempt.on('error', (error) => {
      // Once the answer has begun, its own end tells the client.
      if (answer.begun || answer.closed) breakOff(answer);
      // Most likely the other side closed a connection that had waited, just as we took it.
      else if (mayRepeat && attempt.reusedSocket && isReset(error)) send();
      else refuse(exchange, passage, error);
    });
    if (hasBody) sendBody(exchange, attempt);
    else attempt.end();
  };

  answer.stream.once('close', () => {
    if (!answer.finished) outgoing.destroy();
    else if (!exchange.bodyArrived) stopBody(exchange, outgoing);
  });
  // Who went away is told by 'close', which follows.
  body.on('error', ignore);
  answer.stream.on('error', ignore);
  send();
}

/** How the body ends is said anew for the next hop. */
function sayLength({ method, hasBody, headers }: HttpExchange, forwarded: string[]): string[] {
  if (headers['content-length'] !== undefined) return forwarded;
  if (hasBody) forwarded.push('Transfer-Encoding', 'chunked');
  else if (METHODS_WITH_BODY.has(method)) forwarded.push('Content-Length', '0');
  return forwarded;
}

function sendBody({ headers, body }: HttpExchange, outgoing: ClientRequest): void {
  // The application may want to answer from the head alone, and `Expect` waits for it. A body that comes at once goes
  // along in the same packet.
  if (headers.expect !== undefined) outgoing.flushHeaders();
  else
    setImmediate(() => {
      if (!outgoing.destroyed) outgoing.flushHeaders();
    });
  body.pipe(outgoing);
}

/** The application has answered without reading to the end: the rest is for nobody. */
function stopBody({ body }: HttpExchange, outgoing: ClientRequest): void {
  body.unpipe(outgoing);
  outgoing.destroy();
  body.resume();
}

function relayAnswer(
  exchange: HttpExchange,
  outgoing: ClientRequest,
  incoming: IncomingMessage,
  passage: Passage,
): void {
  const { answer } = exchange;
  // The client may have gone, and then `close` has come and gone too.
  if (answer.closed) {
    incoming.destroy();
    return;
  }
  incoming.on('error', () => breakOff(answer));
  if (hasUnknownCoding(incoming.headers)) {
    incoming.destroy();
    refuse(exchange, passage, unknownCoding(incoming));
    return;
  }
  closeUnlessBodyArrives(exchange);
  try {
    answer.begin(incoming.statusCode ?? 0, incoming.statusMessage ?? '', passage.answerHeaders(incoming));
  } catch (cause) {
    // The parser lets a few things through that may not be sent, such as a status below 100.
    incoming.destroy();
    refuse(exchange, passage, new BrokenAnswerError('its answer is not valid HTTP', { cause }));
    return;
  }
  if (!passBody(incoming, outgoing, answer.stream)) incoming.pipe(answer.stream);
  // A body that came along with the head has been written by then, in the same packet; an event stream that says
  // nothing yet must still get its head through.
  setImmediate(() => {
    if (!answer.closed) answer.flush();
  });
}

export function unknownCoding({ headers }: IncomingMessage): BrokenAnswerError {
  return new BrokenAnswerError(`its Transfer-Encoding is "${headers['transfer-encoding']}", and only "chunked" passes`);
}

/** An answer that has come to its end is whole, whatever becomes of the connection by which it came. */
function breakOff(answer: HttpAnswer): void {
  if (!answer.stream.writableEnded) answer.abort();
}

function refuse(exchange: HttpExchange, passage: Passage, error: Error): void {
  if (exchange.answer.begun || exchange.answer.closed) {
    exchange.answer.abort();
    return;
  }
  exchange.body.unpipe();
  closeUnlessBodyArrives(exchange);
  passage.failed(error);
  exchange.body.resume();
}

/** After `Expect` without a 100, the client may never send its body: what comes next cannot be told from it. */
function closeUnlessBodyArrives({ headers, bodyArrived, answer }: HttpExchange): void {
  if (headers.expect !== undefined && !bodyArrived) answer.closeAfterwards();
}

function isReset(error: Error): boolean {
  return 'code' in error && (error.code === 'ECONNRESET' || error.code === 'EPIPE');
}

function ignore(): void {}
