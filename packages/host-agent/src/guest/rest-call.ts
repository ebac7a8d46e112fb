import { type IncomingMessage, request } from 'node:http';
import type { Socket } from 'node:net';
import { pipeline, type Readable } from 'node:stream';
import { z } from 'zod';
import { type ConnectionPool, HEADERS_TIMEOUT_MS, UNARY_TIMEOUT_MS } from './connection-pool.ts';
import type { GuestConnection } from './guest-connection.ts';
import { GuestDeadlineError, GuestError, toGuestError } from './guest-error.ts';

export interface RestCall {
  readonly method: 'GET' | 'POST';
  /** With its query. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string | number>>;
  readonly body?: string | Readable;
  readonly headersTimeoutMs?: number;
}

/** Enough of a refusal's body to say why; a guest may send any amount. */
const MAX_ERROR_BODY_BYTES = 8 * 1024;
const MAX_JSON_BYTES = 1024 * 1024;

/**
 * Sends one request and answers when the response's headers are there. The caller reads the body to its end or destroys
 * it. Throws GuestError.
 */
export function openRest(
  guest: GuestConnection,
  pool: ConnectionPool,
  call: RestCall,
  signal?: AbortSignal,
): Promise<IncomingMessage> {
  const what = `${call.method} ${call.path.split('?', 1)[0]}`;
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  let headersTimer: NodeJS.Timeout | undefined;
  const { authorization: _user, ...token } = guest.headers();
  const outgoing = request({
    host: guest.endpoint.address,
    port: guest.port,
    method: call.method,
    path: call.path,
    agent: pool,
    headers: { ...token, ...call.headers },
    ...(signal === undefined ? {} : { signal }),
  });
  outgoing.once('response', (response) => {
    clearTimeout(headersTimer);
    resolve(response);
  });
  outgoing.once('error', (error) => {
    clearTimeout(headersTimer);
    reject(toGuestError(error, what, signal));
  });
  // The limit counts from the moment the whole request is out: a long upload is not a slow answer.
  outgoing.once('finish', () => {
    const limitMs = call.headersTimeoutMs ?? HEADERS_TIMEOUT_MS;
    headersTimer = setTimeout(() => outgoing.destroy(new GuestDeadlineError(what, limitMs)), limitMs);
  });
  if (call.body === undefined || typeof call.body === 'string') outgoing.end(call.body);
  else
    pipeline(call.body, outgoing, (error) => {
      // The guest may answer and close before it has read everything; then the answer counts.
      if (error) reject(toGuestError(error, what, signal));
    });
  return promise;
}

export interface RestAnswer {
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
  /** The connection that it came by. */
  readonly socket: Socket;
}

/** A short call: throws GuestError `rejected` with status and body unless the answer has one of the expected statuses. */
export async function callRest(
  guest: GuestConnection,
  call: RestCall,
  expected: readonly number[],
  signal?: AbortSignal,
): Promise<RestAnswer> {
  const limit = AbortSignal.timeout(UNARY_TIMEOUT_MS);
  const combined = signal === undefined ? limit : AbortSignal.any([signal, limit]);
  const response = await openRest(guest, guest.unary, call, combined);
  if (!expected.includes(response.statusCode ?? 0)) throw await rejection(call, response);
  try {
    const { headers, socket } = response;
    return { headers, socket, body: await readText(response, MAX_JSON_BYTES) };
  } catch (error) {
    throw toGuestError(error, `${call.method} ${call.path}`, combined);
  }
}

export async function callJson<T>(
  guest: GuestConnection,
  call: RestCall,
  schema: z.ZodType<T>,
  signal?: AbortSignal,
): Promise<T> {
  const { body } = await callRest(guest, call, [200], signal);
  try {
    return schema.parse(JSON.parse(body));
  } catch (error) {
    throw new GuestError('protocol', `${call.method} ${call.path}: the answer has another form than expected.`, {
      body: body.slice(0, MAX_ERROR_BODY_BYTES),
      cause: error,
    });
  }
}

const refusal = z.object({ message: z.string() });

/** Reads why the guest agent refused. */
export async function rejection(call: RestCall, response: IncomingMessage): Promise<GuestError> {
  const status = response.statusCode ?? 0;
  const body = await readText(response, MAX_ERROR_BODY_BYTES).catch(() => '');
  let said = body.trim();
  try {
    said = refusal.parse(JSON.parse(body)).message;
  } catch {
    // Some answers are plain text by specification.
  }
  const path = call.path.split('?', 1)[0];
  return new GuestError('rejected', `${call.method} ${path}: the guest agent answered ${status}: ${said}`, {
    status,
    body,
  });
}

/** Collects up to `maxBytes`; what is longer is cut off and its connection closed. */
async function readText(response: IncomingMessage, maxBytes: number): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    size += chunk.length;
    if (size >= maxBytes) break;
  }
  return Buffer.concat(chunks).subarray(0, maxBytes).toString('utf8');
}
