import type { IncomingMessage, ServerResponse } from 'node:http';
import { NestboxError } from '@nestbox/contract';
import type { AgentContext } from './context.ts';

/** Answers one REST route. What it throws is mapped by `sendRestError`; after the headers are out it cuts the connection. */
export type RestHandler = (
  request: IncomingMessage,
  response: ServerResponse,
  url: URL,
  context: AgentContext,
) => Promise<void>;

/** An answer other than success, in the form of envd: `{"code":<status>,"message":"…"}`. */
export class RestError extends Error {
  override readonly name = 'RestError';
  readonly status: number;

  constructor(status: number, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.status = status;
  }
}

export function sendJson(
  response: ServerResponse,
  status: number,
  body: unknown,
  headers: Record<string, string> = {},
) {
  const text = JSON.stringify(body);
  response.writeHead(status, {
    'Content-Type': 'application/json; charset=utf-8',
    'Content-Length': Buffer.byteLength(text),
    ...headers,
  });
  response.end(text);
}

/** Answers without a body. */
export function sendEmpty(response: ServerResponse, status: number, headers: Record<string, string> = {}) {
  response.writeHead(status, headers);
  response.end();
}

/** The one place where a thrown error becomes a REST answer. */
export function sendRestError(response: ServerResponse, error: unknown): void {
  if (response.headersSent) {
    // The status is out already; only a broken connection can tell the client that the body is not whole.
    response.destroy(error instanceof Error ? error : undefined);
    return;
  }
  const status = restStatus(error);
  if (status === 500) console.error('nestbox: a request failed:', error);
  const message = error instanceof Error ? error.message : String(error);
  sendJson(response, status, { code: status, message }, { 'X-Content-Type-Options': 'nosniff' });
}

function restStatus(error: unknown): number {
  if (error instanceof RestError) return error.status;
  return error instanceof NestboxError ? error.httpStatus : 500;
}

/**
 * Reads a whole body; throws RestError 413 once it is larger than `maxBytes`. By events: a stream's async iterator is a
 * lot of code to go through for the first time after a restore.
 */
export function readBody(request: IncomingMessage, maxBytes: number): Promise<Buffer> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  const chunks: Buffer[] = [];
  let size = 0;
  request.on('data', (chunk: Buffer) => {
    size += chunk.length;
    // What comes after that is let go.
    if (size > maxBytes) reject(new RestError(413, `the request body is larger than ${maxBytes} bytes`));
    else chunks.push(chunk);
  });
  request.once('end', () =>
    resolve(chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks)),
  );
  request.once('error', reject);
  // Without an end before: whoever sent it has left. An error that nobody gets would cost as much as one that somebody does.
  request.once('close', () => {
    if (!request.readableEnded) reject(new Error('the request broke off'));
  });
  return promise;
}
