import { type ErrorCode, isErrorCode, NestboxError } from '@nestbox/contract';
import { type ErrorBody, errorBody } from '@nestbox/contract/http';
import type { z } from 'zod';
import type { Endpoints } from './endpoints.ts';

export interface ApiRequest {
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE';
  /** With its query. */
  readonly path: string;
  readonly json?: unknown;
  /** Default REQUEST_TIMEOUT_MS. */
  readonly timeoutMs?: number;
}

export interface ApiAnswer {
  readonly status: number;
  readonly body: unknown;
  readonly headers: Headers;
}

/** A create waits for a VM to boot, without KVM on a busy machine for quite some time. */
const REQUEST_TIMEOUT_MS = 120_000;

/**
 * One request to the control API and its answer. Throws NestboxError with the server's own code and words;
 * server_not_running and deadline_exceeded are ours; and the abort's reason.
 */
export class ApiConnection {
  readonly #endpoints: Endpoints;
  readonly #credentials: Readonly<Record<string, string>>;

  /** Without other credentials it speaks by the API key. */
  constructor(endpoints: Endpoints, credentials: Readonly<Record<string, string>> = { 'X-API-Key': endpoints.apiKey }) {
    this.#endpoints = endpoints;
    this.#credentials = credentials;
  }

  async call({ method, path, json, timeoutMs }: ApiRequest, signal?: AbortSignal): Promise<ApiAnswer> {
    const { apiUrl } = this.#endpoints;
    const deadline = AbortSignal.timeout(timeoutMs ?? REQUEST_TIMEOUT_MS);
    let response: Response;
    let text: string;
    try {
      response = await fetch(`${apiUrl}${path}`, {
        method,
        headers: { ...this.#credentials, ...(json === undefined ? {} : { 'Content-Type': 'application/json' }) },
        ...(json === undefined ? {} : { body: JSON.stringify(json) }),
        signal: signal === undefined ? deadline : AbortSignal.any([signal, deadline]),
      });
      text = await response.text();
    } catch (cause) {
      if (signal?.aborted) throw signal.reason;
      if (deadline.aborted)
        throw new NestboxError('deadline_exceeded', `The server at ${apiUrl} did not answer in time.`, { cause });
      throw new NestboxError(
        'server_not_running',
        `The server at ${apiUrl} cannot be reached: ${reasonOf(cause)}. Is it running?`,
        { cause },
      );
    }
    const body = parseJson(text);
    if (response.ok) return { status: response.status, body, headers: response.headers };
    const error = errorBody.safeParse(body);
    if (error.success) throw errorFromBody({ ...error.data, code: response.status });
    throw new NestboxError(
      codeOf(response.status, undefined),
      `The server at ${apiUrl} answered ${response.status} to ${method} ${path}.`,
    );
  }

  /** Throws NestboxError `internal` when the answer is not of this form. */
  parse<T>(schema: z.ZodType<T>, body: unknown): T {
    const parsed = schema.safeParse(body);
    if (parsed.success) return parsed.data;
    throw new NestboxError(
      'internal',
      `The server at ${this.#endpoints.apiUrl} gave an answer of an unknown form. Is it a Nestbox server?`,
      { cause: parsed.error },
    );
  }
}

/** An error as the wire tells it. Servers that are not ours send no `error_code`; there the status tells the kind. */
export function errorFromBody({ code, error_code, message }: ErrorBody): NestboxError {
  return new NestboxError(codeOf(code, error_code), message);
}

const CODES_BY_STATUS: Readonly<Record<number, ErrorCode>> = {
  400: 'invalid_request',
  401: 'unauthorized',
  403: 'forbidden',
  404: 'not_found',
  409: 'conflict',
  429: 'rate_limited',
  503: 'host_unavailable',
  504: 'deadline_exceeded',
};

function codeOf(status: number, code: string | undefined): ErrorCode {
  return code !== undefined && isErrorCode(code) ? code : (CODES_BY_STATUS[status] ?? 'internal');
}

function reasonOf(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  return cause instanceof Error ? cause.message || cause.name : String(cause);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
