import type { ClientRequest, IncomingMessage } from 'node:http';
import type { Writable } from 'node:stream';
import { ChunkedDecoder } from './chunked-decoder.ts';
import { type SocketTap, tapOf } from './socket-tap.ts';

/**
 * Below this the parser's way costs less than the connection: it cannot be used again, since the parser never learns that
 * the body has ended.
 */
const LARGE_BODY_BYTES = 2 * 1024 * 1024;

/** An answer's body on its way from an application to a client. */
interface Body {
  readonly incoming: IncomingMessage;
  readonly outgoing: ClientRequest;
  readonly to: Writable;
  readonly tap: SocketTap;
}

/**
 * From the `response` event, synchronously: passes a body on past the parser where that is worth it, with as much on the
 * way as one read takes. False when it is to go the usual way, by the stream of the response. A body that breaks off
 * makes that stream fail all the same.
 */
export function passBody(incoming: IncomingMessage, outgoing: ClientRequest, to: Writable): boolean {
  const tap = tapOf(incoming.socket);
  if (tap === undefined) return false;
  const isPassed = outgoing.writableFinished && hasBody(incoming, outgoing) && start({ incoming, outgoing, to, tap });
  if (!isPassed) tap.leave();
  return isPassed;
}

function hasBody({ statusCode }: IncomingMessage, { method }: ClientRequest): boolean {
  return method !== 'HEAD' && method !== 'CONNECT' && statusCode !== 204 && statusCode !== 304;
}

function start(body: Body): boolean {
  const { 'content-length': length, 'transfer-encoding': coding } = body.incoming.headers;
  if (coding?.toLowerCase() === 'chunked' && length === undefined) return passChunked(body);
  const bytes = coding === undefined ? Number(length) : Number.NaN;
  return bytes >= LARGE_BODY_BYTES && Number.isSafeInteger(bytes) && passLength(body, bytes);
}

function passLength({ outgoing, to, tap }: Body, length: number): boolean {
  let left = length;
  return tap.take((bytes, done) => {
    const part = bytes.length > left ? bytes.subarray(0, left) : bytes;
    left -= part.length;
    if (left > 0) {
      write(to, part, done);
      return;
    }
    end(to, part, done);
    tap.release();
    outgoing.destroy();
  }, 'large');
}

/** The parser gets an end in place of the whole body, so that the connection can be used again. */
function passChunked({ incoming, outgoing, to, tap }: Body): boolean {
  const decoder = new ChunkedDecoder();
  return tap.take((bytes, done) => {
    const decoded = decoder.decode(bytes);
    if (decoded === undefined) {
      outgoing.destroy(new Error('The body is not chunked as it should be.'));
      return;
    }
    const part = bytes.subarray(0, decoded.length);
    if (!decoder.ended) {
      if (part.length === 0) done();
      else write(to, part, done);
      return;
    }
    end(to, part, done);
    tap.release();
    if (decoded.read < bytes.length) {
      outgoing.destroy();
      return;
    }
    incoming.resume();
    incoming.socket.push('0\r\n\r\n');
  }, 'unknown');
}

function write(to: Writable, bytes: Buffer, done: () => void): void {
  to.write(bytes, (error) => {
    if (!error) done();
  });
}

/** Not in one call: the callback of an end does not tell in every Node that the bytes have not been written. */
function end(to: Writable, bytes: Buffer, done: () => void): void {
  if (bytes.length > 0) write(to, bytes, done);
  else done();
  to.end();
}
