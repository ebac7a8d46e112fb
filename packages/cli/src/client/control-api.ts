import {
  diskUsageBody,
  type HostDiskUsage,
  type ListedSandbox,
  listedSandboxBody,
  type Sandbox,
  type SandboxActivity,
  type SandboxDetail,
  type SandboxForkResult,
  type SandboxLogEntry,
  type SandboxMetric,
  type SandboxTrace,
  type SnapshotInfo,
  sandboxActivityBody,
  sandboxBody,
  sandboxDetailBody,
  sandboxForkResultBody,
  sandboxLogsV2Body,
  sandboxMetricBody,
  sandboxTraceBody,
  snapshotInfoBody,
  type Template,
  templateBody,
} from '@nestbox/contract/http';
import { z } from 'zod';
import { ApiConnection } from './api-connection.ts';
import type { Endpoints } from './endpoints.ts';

export interface NewSandbox {
  readonly templateId: string;
  /** Until the sandbox ends by itself, or is paused by itself. */
  readonly timeoutSec: number;
  readonly envVars?: Readonly<Record<string, string>>;
  readonly metadata?: Readonly<Record<string, string>>;
  readonly allowInternetAccess?: boolean;
  /** What happens at the time-out. Undefined: the sandbox ends. */
  readonly pause?: AutoPause;
}

export interface AutoPause {
  /** False: only the disk is kept, and a resume boots from it. */
  readonly memory: boolean;
  /** The next request to the sandbox resumes it. */
  readonly autoResume: boolean;
}

/**
 * Pausing and forking write a guest's memory to a disk, which takes its time when that is large and slow. Below the 300 s
 * after which fetch itself gives up on an answer, with words that say less.
 */
const SNAPSHOT_TIMEOUT_MS = 280_000;

/**
 * What the `nestbox` command asks of the control API, over plain HTTP: it must be as good for the server of another
 * machine as for the one in the next process. Throws NestboxError with the server's own code and words.
 */
export class ControlApi {
  readonly #api: ApiConnection;

  constructor(endpoints: Endpoints) {
    this.#api = new ApiConnection(endpoints);
  }

  async createSandbox(request: NewSandbox, signal?: AbortSignal): Promise<Sandbox> {
    const json = {
      templateID: request.templateId,
      timeout: request.timeoutSec,
      secure: true,
      allow_internet_access: request.allowInternetAccess ?? true,
      envVars: request.envVars ?? {},
      metadata: request.metadata ?? {},
      ...(request.pause === undefined ? {} : autoPauseFields(request.pause)),
    };
    const { body } = await this.#api.call({ method: 'POST', path: '/sandboxes', json }, signal);
    return this.#api.parse(sandboxBody, body);
  }

  /** All sandboxes, paused ones too, newest first, whatever the number of pages. */
  async listSandboxes(signal?: AbortSignal): Promise<ListedSandbox[]> {
    return await this.#allPages('/v2/sandboxes', {}, listedSandboxBody, signal);
  }

  async getSandbox(sandboxId: string, signal?: AbortSignal): Promise<SandboxDetail> {
    const { body } = await this.#api.call({ method: 'GET', path: sandboxPath(sandboxId) }, signal);
    return this.#api.parse(sandboxDetailBody, body);
  }

  /** From now on the sandbox ends by itself in `timeoutSec` seconds. */
  async setSandboxTimeout(sandboxId: string, timeoutSec: number, signal?: AbortSignal): Promise<void> {
    const json = { timeout: timeoutSec };
    await this.#api.call({ method: 'POST', path: sandboxPath(sandboxId, 'timeout'), json }, signal);
  }

  async killSandbox(sandboxId: string, signal?: AbortSignal): Promise<void> {
    await this.#api.call({ method: 'DELETE', path: sandboxPath(sandboxId) }, signal);
  }

  /** `memory` false keeps the disk alone. Throws `sandbox_paused` when it is paused already. */
  async pauseSandbox(sandboxId: string, options: { readonly memory: boolean }, signal?: AbortSignal): Promise<void> {
    const json = { memory: options.memory };
    const path = sandboxPath(sandboxId, 'pause');
    await this.#api.call({ method: 'POST', path, json, timeoutMs: SNAPSHOT_TIMEOUT_MS }, signal);
  }

  /**
   * Resumes a paused sandbox, and lets a running one live `timeoutSec` from now at least. `memory` false boots a paused
   * one from its disk; missing, it is resumed as it was paused. `resumed` is false when it was running.
   */
  async connectSandbox(
    sandboxId: string,
    options: { readonly timeoutSec: number; readonly memory?: boolean },
    signal?: AbortSignal,
  ): Promise<{ readonly sandbox: Sandbox; readonly resumed: boolean }> {
    const json = {
      timeout: options.timeoutSec,
      ...(options.memory === undefined ? {} : { memory: options.memory }),
    };
    const path = `/v2${sandboxPath(sandboxId, 'connect')}`;
    const { body, status } = await this.#api.call(
      { method: 'POST', path, json, timeoutMs: SNAPSHOT_TIMEOUT_MS },
      signal,
    );
    return { sandbox: this.#api.parse(sandboxBody, body), resumed: status === 201 };
  }

  /** Copies of a running sandbox, which goes on. One outcome a copy. */
  async forkSandbox(
    sandboxId: string,
    options: { readonly count: number; readonly timeoutSec: number },
    signal?: AbortSignal,
  ): Promise<SandboxForkResult[]> {
    const json = { count: options.count, timeout: options.timeoutSec };
    const path = sandboxPath(sandboxId, 'fork');
    const { body } = await this.#api.call({ method: 'POST', path, json, timeoutMs: SNAPSHOT_TIMEOUT_MS }, signal);
    return this.#api.parse(z.array(sandboxForkResultBody), body);
  }

  /** Makes a template of a running sandbox, which goes on. Without a name it is found by its id alone. */
  async snapshotSandbox(sandboxId: string, name: string | undefined, signal?: AbortSignal): Promise<SnapshotInfo> {
    const json = name === undefined ? {} : { name };
    const path = sandboxPath(sandboxId, 'snapshots');
    const { body } = await this.#api.call({ method: 'POST', path, json, timeoutMs: SNAPSHOT_TIMEOUT_MS }, signal);
    return this.#api.parse(snapshotInfoBody, body);
  }

  /** All snapshots that the filter lets pass, whatever the number of pages. */
  async listSnapshots(
    filter: { readonly sandboxId?: string | undefined; readonly name?: string | undefined } = {},
    signal?: AbortSignal,
  ): Promise<SnapshotInfo[]> {
    const query = {
      ...(filter.sandboxId === undefined ? {} : { sandboxID: filter.sandboxId }),
      ...(filter.name === undefined ? {} : { name: filter.name }),
    };
    return await this.#allPages('/snapshots', query, snapshotInfoBody, signal);
  }

  /** Of a template or a snapshot: to the API a snapshot is a template. */
  async deleteTemplate(templateId: string, signal?: AbortSignal): Promise<void> {
    await this.#api.call({ method: 'DELETE', path: `/templates/${encodeURIComponent(templateId)}` }, signal);
  }

  async listTemplates(signal?: AbortSignal): Promise<Template[]> {
    const { body } = await this.#api.call({ method: 'GET', path: '/templates' }, signal);
    return this.#api.parse(z.array(templateBody), body);
  }

  async getActivity(sandboxId: string, signal?: AbortSignal): Promise<SandboxActivity> {
    const { body } = await this.#api.call({ method: 'GET', path: sandboxPath(sandboxId, 'activity') }, signal);
    return this.#api.parse(sandboxActivityBody, body);
  }

  /** The operations that the server remembers of a sandbox, newest first. */
  async getTrace(sandboxId: string, signal?: AbortSignal): Promise<SandboxTrace['operations']> {
    const { body } = await this.#api.call({ method: 'GET', path: sandboxPath(sandboxId, 'trace') }, signal);
    return this.#api.parse(sandboxTraceBody, body).operations;
  }

  /** A part of a sandbox's log, oldest first; the newest lines when it is asked for from behind. */
  async getLogs(
    sandboxId: string,
    query: {
      readonly cursorMs?: number | undefined;
      readonly limit: number;
      readonly backward?: boolean;
      readonly level?: string | undefined;
      readonly search?: string | undefined;
    },
    signal?: AbortSignal,
  ): Promise<SandboxLogEntry[]> {
    const parameters = new URLSearchParams({
      limit: String(query.limit),
      direction: query.backward === true ? 'backward' : 'forward',
      ...(query.cursorMs === undefined ? {} : { cursor: String(query.cursorMs) }),
      ...(query.level === undefined ? {} : { level: query.level }),
      ...(query.search === undefined ? {} : { search: query.search }),
    });
    const path = `/v2${sandboxPath(sandboxId, 'logs')}?${parameters}`;
    const { body } = await this.#api.call({ method: 'GET', path }, signal);
    const { logs } = this.#api.parse(sandboxLogsV2Body, body);
    return query.backward === true ? logs.toReversed() : logs;
  }

  /** Oldest first. Bounds in seconds since the Unix epoch. */
  async getMetrics(
    sandboxId: string,
    range: { readonly start?: number; readonly end?: number },
    signal?: AbortSignal,
  ): Promise<SandboxMetric[]> {
    const parameters = new URLSearchParams({
      ...(range.start === undefined ? {} : { start: String(range.start) }),
      ...(range.end === undefined ? {} : { end: String(range.end) }),
    });
    const path = `${sandboxPath(sandboxId, 'metrics')}?${parameters}`;
    const { body } = await this.#api.call({ method: 'GET', path }, signal);
    return this.#api.parse(z.array(sandboxMetricBody), body);
  }

  async getDiskUsage(signal?: AbortSignal): Promise<HostDiskUsage[]> {
    const { body } = await this.#api.call({ method: 'GET', path: '/disk' }, signal);
    return this.#api.parse(diskUsageBody, body).hosts;
  }

  async #allPages<T>(
    path: string,
    filter: Readonly<Record<string, string>>,
    item: z.ZodType<T>,
    signal: AbortSignal | undefined,
  ): Promise<T[]> {
    const all: T[] = [];
    let next: string | undefined;
    do {
      const query = new URLSearchParams({
        ...filter,
        limit: '100',
        ...(next === undefined ? {} : { nextToken: next }),
      });
      const { body, headers } = await this.#api.call({ method: 'GET', path: `${path}?${query}` }, signal);
      all.push(...this.#api.parse(z.array(item), body));
      next = headers.get('x-next-token') ?? undefined;
    } while (next !== undefined && next !== '');
    return all;
  }
}

function sandboxPath(sandboxId: string, verb?: string): string {
  const path = `/sandboxes/${encodeURIComponent(sandboxId)}`;
  return verb === undefined ? path : `${path}/${verb}`;
}

function autoPauseFields({ memory, autoResume }: AutoPause): object {
  return { autoPause: true, autoPauseMemory: memory, autoResume: { enabled: autoResume } };
}
