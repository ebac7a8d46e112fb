import { type ErrorCode, isErrorCode, NestboxError } from '@nestbox/contract';
import {
  errorBody,
  type ListedSandbox,
  listedSandboxBody,
  type Sandbox,
  type SandboxDetail,
  sandboxBody,
  sandboxDetailBody,
  type Template,
  templateBody,
} from '@nestbox/contract/http';
import { z } from 'zod';
import type { Endpoints } from './endpoints.ts';

export interface NewSandbox {
  readonly templateId: string;
  /** Until the sandbox ends by itself. */
  readonly timeoutSec: number;
  readonly envVars?: Readonly<Record<string, string>>;
  readonly metadata?: Readonly<Record<string, string>>;
  readonly allowInternetAccess?: boolean;
}

/** A create waits for a VM to boot, without KVM on a busy machine for quite some time. */
const REQUEST_TIMEOUT_MS = 120_000;

/**
 * What the `nestbox` command asks of the control API, over plain HTTP: it must be as good for the server of another
 * machine as for the one in the next process. Throws NestboxError with the server's own code and words.
 */
export class ControlApi {
  readonly #endpoints: Endpoints;

  constructor(endpoints: Endpoints) {
    this.#endpoints = endpoints;
  }

  async createSandbox(request: NewSandbox, signal?: AbortSignal): Promise<Sandbox> {
    const { body } = await this.#call('POST', '/sandboxes', signal, {
      templateID: request.templateId,
      timeout: request.timeoutSec,
      secure: true,
      allow_internet_access: request.allowInternetAccess ?? true,
      envVars: request.envVars ?? {},
      metadata: request.metadata ?? {},
    });
    return this.#parse(sandboxBody, body);
  }

  /** All running sandboxes, newest first, whatever the number of pages. */
  async listSandboxes(signal?: AbortSignal): Promise<ListedSandbox[]> {
    const all: ListedSandbox[] = [];
    let next: string | undefined;
    do {
      const query = new URLSearchParams({ limit: '100', ...(next === undefined ? {} : { nextToken: next }) });
      const { body, headers } = await this.#call('GET', `/v2/sandboxes?${query}`, signal);
      all.push(...this.#parse(z.array(listedSandboxBody), body));
      next = headers.get('x-next-token') ?? undefined;
    } while (next !== undefined && next !== '');
    return all;
  }

  async getSandbox(sandboxId: string, signal?: AbortSignal): Promise<SandboxDetail> {
    const { body } = await this.#call('GET', `/sandboxes/${encodeURIComponent(sandboxId)}`, signal);
    return this.#parse(sandboxDetailBody, body);
  }

  /** From now on the sandbox ends by itself in `timeoutSec` seconds. */
  async setSandboxTimeout(sandboxId: string, timeoutSec: number, signal?: AbortSignal): Promise<void> {
    await this.#call('POST', `/sandboxes/${encodeURIComponent(sandboxId)}/timeout`, signal, { timeout: timeoutSec });
  }

  async killSandbox(sandboxId: string, signal?: AbortSignal): Promise<void> {
    await this.#call('DELETE', `/sandboxes/${encodeURIComponent(sandboxId)}`, signal);
  }

  async listTemplates(signal?: AbortSignal): Promise<Template[]> {
    const { body } = await this.#call('GET', '/templates', signal);
    return this.#parse(z.array(templateBody), body);
  }

  async #call(
    method: string,
    path: string,
    signal: AbortSignal | undefined,
    json?: unknown,
  ): Promise<{ body: unknown; headers: Headers }> {
    const { apiUrl, apiKey } = this.#endpoints;
    const deadline = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
    let response: Response;
    let text: string;
    try {
      response = await fetch(`${apiUrl}${path}`, {
        method,
        headers: { 'X-API-Key': apiKey, ...(json === undefined ? {} : { 'Content-Type': 'application/json' }) },
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
    if (response.ok) return { body, headers: response.headers };
    const error = errorBody.safeParse(body);
    const message = error.success ? error.data.message : `The server answered ${response.status} to ${method} ${path}.`;
    throw new NestboxError(codeOf(response.status, error.data?.error_code), message);
  }

  #parse<T>(schema: z.ZodType<T>, body: unknown): T {
    const parsed = schema.safeParse(body);
    if (parsed.success) return parsed.data;
    throw new NestboxError('internal', `The server at ${this.#endpoints.apiUrl} gave an answer of an unknown form.`, {
      cause: parsed.error,
    });
  }
}

/** Servers that are not ours send no `error_code`; their status says the kind. */
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
