import { STATUS_CODES } from 'node:http';
import { NestboxError, type SandboxAddress } from '@nestbox/contract';
import type { HttpExchange } from '@nestbox/kit';

/** Why the edge answers a request itself. `body` is what the client gets as JSON. */
export interface EdgeError {
  readonly status: number;
  readonly body: {
    readonly code: number;
    readonly message: string;
    readonly error_code: string;
    readonly sandboxId?: string;
    readonly port?: number;
  };
  /** Whole seconds for `Retry-After`. */
  readonly retryAfterSec?: number;
}

export function badAddress(message: string): EdgeError {
  return { status: 400, body: { code: 400, message, error_code: 'invalid_request' } };
}

/** Source: RFC 9112, section 6.1. */
export function unknownCoding(): EdgeError {
  const message =
    'Of the transfer codings only "chunked" is understood here; "Content-Encoding" goes through as it is.';
  return { status: 501, body: { code: 501, message, error_code: 'not_supported' } };
}

/** The name in the request is not one of this server's. Source: RFC 9110, section 15.5.20. */
export function misdirected(domain: string): EdgeError {
  const message = `This server answers for api.${domain} and <port>-<sandboxId>.${domain} alone.`;
  return { status: 421, body: { code: 421, message, error_code: 'invalid_request' } };
}

/**
 * 502 and this wording, since clients take the status for "not running". The stable code is the control API's, whose
 * own status for it is 404.
 */
export function sandboxNotRunning(address: SandboxAddress): EdgeError {
  return {
    status: 502,
    body: { code: 502, message: 'The sandbox was not found', error_code: 'sandbox_not_found', ...nameOf(address) },
  };
}

/** 502 like a sandbox that is not there: to a client's request it makes no difference. */
export function sandboxPaused(address: SandboxAddress): EdgeError {
  const message = `The sandbox is paused. Resume it with Sandbox.connect() or POST /sandboxes/${address.sandboxId}/connect, then ask again.`;
  return { status: 502, body: { code: 502, message, error_code: 'sandbox_paused', ...nameOf(address) } };
}

/**
 * Why a request that waited for a sandbox to run cannot go there. Whoever asks may be anybody: what the host says of its files and of the guest's
 * console is for the owner, whom connecting tells it.
 */
export function notAwake(address: SandboxAddress, { code, httpStatus, retryAfterMs }: NestboxError): EdgeError {
  switch (code) {
    case 'sandbox_paused':
      return sandboxPaused(address);
    case 'sandbox_not_found':
    case 'sandbox_stopping':
      return sandboxNotRunning(address);
    default: {
      const message = `The sandbox is paused and cannot go on now. Its owner is told why by Sandbox.connect() or POST /sandboxes/${address.sandboxId}/connect.`;
      return {
        status: httpStatus,
        body: { code: httpStatus, message, error_code: code, ...nameOf(address) },
        ...(retryAfterMs === undefined ? {} : { retryAfterSec: Math.max(1, Math.ceil(retryAfterMs / 1000)) }),
      };
    }
  }
}

export function trafficTokenWrong(address: SandboxAddress, missing: boolean): EdgeError {
  const what = missing ? 'is missing' : 'is not the right one';
  const message = `The sandbox's traffic is not public: the header 'e2b-traffic-access-token' ${what}.`;
  return { status: 403, body: { code: 403, message, error_code: 'forbidden', ...nameOf(address) } };
}

/** The answer for routes that only the host may call: as if they did not exist. */
export function internalRoute(address: SandboxAddress): EdgeError {
  return {
    status: 404,
    body: { code: 404, message: 'There is no such route.', error_code: 'not_found', ...nameOf(address) },
  };
}

export function hostUnreachable(address: SandboxAddress): EdgeError {
  const message = 'The host of this sandbox cannot be reached now. The sandbox may still be running; try again.';
  return { status: 503, body: { code: 503, message, error_code: 'host_unavailable', ...nameOf(address) } };
}

export function brokenAnswer(address: SandboxAddress): EdgeError {
  const message = 'What the application in the sandbox answered is not valid HTTP.';
  return { status: 502, body: { code: 502, message, error_code: 'sandbox_unreachable', ...nameOf(address) } };
}

/** Why the edge could not find out where a request goes. What the database's own words say (its address) is for the log alone. */
export function edgeFailure(error: unknown): EdgeError {
  if (error instanceof NestboxError && error.code === 'database_unavailable') {
    const message = 'The database of this server does not answer now. The sandbox may still be running; try again.';
    return { status: 503, body: { code: 503, message, error_code: error.code } };
  }
  const message = 'Something went wrong inside Nestbox; the server log has the details.';
  return { status: 500, body: { code: 500, message, error_code: 'internal' } };
}

function nameOf({ sandboxId, port }: SandboxAddress): SandboxAddress {
  return { sandboxId, port };
}

/** Answers in JSON. After the head is out, only a broken connection tells the client that the body is not whole. */
export function answerError({ answer, method }: HttpExchange, error: EdgeError): void {
  if (answer.begun || answer.closed) {
    answer.abort();
    return;
  }
  const { status, headers, text } = errorAnswer(error);
  answer.begin(status, STATUS_CODES[status] ?? '', headers);
  answer.stream.end(method === 'HEAD' ? undefined : text);
}

/** The same as raw HTTP/1.1, for sockets that have no response object. */
export function edgeErrorOnWire(error: EdgeError): string {
  const { status, headers, text } = errorAnswer(error);
  let head = `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}\r\n`;
  for (let i = 0; i + 1 < headers.length; i += 2) head += `${headers[i]}: ${headers[i + 1]}\r\n`;
  return `${head}Connection: close\r\n\r\n${text}`;
}

/** Any origin may read it, else a browser would only see that "something" failed. */
function errorAnswer({ status, body, retryAfterSec }: EdgeError): { status: number; headers: string[]; text: string } {
  const text = JSON.stringify(body);
  const length = String(Buffer.byteLength(text));
  return {
    status,
    headers: [
      ...['Content-Type', 'application/json; charset=utf-8', 'Content-Length', length],
      ...['Cache-Control', 'no-store', 'Access-Control-Allow-Origin', '*'],
      ...(retryAfterSec === undefined ? [] : ['Retry-After', String(retryAfterSec)]),
    ],
    text,
  };
}
