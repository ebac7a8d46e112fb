import { STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import { type ErrorCode, NestboxError, type SandboxAddress } from '@nestbox/contract';
import { BrokenAnswerError, type HttpExchange, MAX_HEADER_BYTES } from '@nestbox/kit';
import { DialError } from './upstream-pool.ts';

/** What the proxy itself answers. Whatever keeps traffic from a sandbox is a 502: clients depend on that status. */
export interface ProxyErrorBody {
  readonly code: number;
  readonly error_code: ErrorCode;
  readonly message: string;
  readonly sandboxId?: string;
  readonly port?: number;
}

export function badRequest(message: string): ProxyErrorBody {
  return { code: 400, error_code: 'invalid_request', message };
}

export function routeNotFound(target: SandboxAddress): ProxyErrorBody {
  return { code: 404, error_code: 'not_found', message: 'There is no such route.', ...nameOf(target) };
}

/** Maps what `SandboxTargets.target` throws. A full host disk keeps its own status: waiting helps, retrying does not. */
export function sandboxRefused(error: unknown, target: SandboxAddress): ProxyErrorBody {
  const known = NestboxError.from(error);
  const code = known.code === 'host_disk_full' ? known.httpStatus : 502;
  return { code, error_code: known.code, message: known.message, ...nameOf(target) };
}

/** The sandbox still runs, but takes nothing new: it would be cut off a moment later. */
export function beingPaused(target: SandboxAddress): ProxyErrorBody {
  const message = 'The sandbox is being paused. Resume it, then ask again.';
  return { code: 502, error_code: 'sandbox_unreachable', message, ...nameOf(target) };
}

/** Maps a failure on the way to the application. */
export function upstreamFailed(error: unknown, target: SandboxAddress): ProxyErrorBody {
  if (error instanceof DialError && error.failure === 'refused')
    return {
      code: 502,
      error_code: 'port_not_open',
      message: `The sandbox is running but nothing listens on port ${target.port}.`,
      ...nameOf(target),
    };
  return {
    code: 502,
    error_code: 'sandbox_unreachable',
    message: whyNoAnswer(error, target.port),
    ...nameOf(target),
  };
}

/** Node's own words for these say little to whoever wrote the application. */
function whyNoAnswer(error: unknown, port: number): string {
  const detail = error instanceof Error ? error.message : String(error);
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  if (error instanceof BrokenAnswerError)
    return `The answer of the application on port ${port} cannot be passed on: ${detail}.`;
  if (code === 'HPE_HEADER_OVERFLOW')
    return `The answer of the application on port ${port} has more than ${MAX_HEADER_BYTES / 1024} KiB of headers.`;
  if (code.startsWith('HPE_'))
    return `The answer of the application on port ${port} is not valid HTTP/1.1: ${detail.replace(/^Parse Error: /, '')}.`;
  if (code === 'ECONNRESET' || code === 'EPIPE')
    return `The connection to port ${port} was closed before there was an answer: by the application, or since the sandbox ended or was paused.`;
  return `The sandbox did not answer on port ${port}: ${detail}`;
}

/** After the status line is out, only a broken connection tells the client that the body is not whole. */
export function sendProxyError({ answer, method }: HttpExchange, body: ProxyErrorBody): void {
  if (answer.begun || answer.closed) {
    answer.abort();
    return;
  }
  const text = JSON.stringify(body);
  answer.begin(body.code, STATUS_CODES[body.code] ?? '', [
    ...['Content-Type', 'application/json; charset=utf-8'],
    ...['Content-Length', String(Buffer.byteLength(text))],
    // Any origin may read it, else a browser would only see that "something" failed.
    ...['Cache-Control', 'no-store', 'Access-Control-Allow-Origin', '*'],
  ]);
  answer.stream.end(method === 'HEAD' ? undefined : text);
}

/** The same on a bare socket, after a request to upgrade. */
export function sendProxyErrorOnSocket(socket: Duplex, body: ProxyErrorBody): void {
  const text = JSON.stringify(body);
  socket.end(
    `HTTP/1.1 ${body.code} ${STATUS_CODES[body.code] ?? ''}\r\n` +
      'Content-Type: application/json; charset=utf-8\r\n' +
      `Content-Length: ${Buffer.byteLength(text)}\r\nConnection: close\r\n\r\n${text}`,
  );
}

function nameOf({ sandboxId, port }: SandboxAddress): { sandboxId: string; port: number } {
  return { sandboxId, port };
}
