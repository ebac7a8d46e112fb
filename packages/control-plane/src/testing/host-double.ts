import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { Code, ConnectError, type ConnectRouter, createRouterTransport } from '@connectrpc/connect';
import { ENVD_VERSION } from '@nestbox/contract';
import {
  type CreateSandboxRequest,
  type GetHostResponseSchema,
  type GetSandboxLogsRequest,
  type GetSandboxLogsResponse_LogLine,
  type GetSandboxMetricsResponse,
  GetSandboxMetricsResponseSchema,
  HostService,
  type Sandbox,
  type SandboxOrigin,
  SandboxOriginSchema,
  SandboxSchema,
  SandboxState,
  type SetSandboxEgressRequest,
  TemplateSchema,
  type WatchSandboxesResponseSchema,
} from '@nestbox/contract/host';
import type { HostConnection } from '../config.ts';
import { HostDoubleSnapshots, hostError } from './host-double-snapshots.ts';

type WatchMessage = MessageInitShape<typeof WatchSandboxesResponseSchema>;

/**
 * A host agent without VMs: host.v1 behind a real router transport, and a real HTTP server on a unix socket in the
 * place of its proxy. A test looks at what it was asked and makes it fail, fall silent or lose sandboxes.
 */
export class HostDouble {
  readonly id: string;
  readonly sandboxes = new Map<string, Sandbox>();
  /** How each was asked for, as the host keeps it. */
  readonly origins = new Map<string, SandboxOrigin>();
  /** Every create request, in order. */
  readonly created: CreateSandboxRequest[] = [];
  /** The last network update of each sandbox. */
  readonly egressOf = new Map<string, SetSandboxEgressRequest>();
  /** Thrown by network updates, when set. */
  egressError: Error | undefined;
  /** Every id that was to be destroyed, in order. */
  readonly destroyed: string[] = [];
  /** Every id that was asked for by itself, in order. */
  readonly lookedFor: string[] = [];
  readonly templates = [
    create(TemplateSchema, {
      templateId: 'base0000000000000000',
      names: ['base'],
      vcpuCount: 2,
      memoryMib: 512,
      diskMib: 4096,
      envdVersion: ENVD_VERSION,
      createdAtMs: 1_700_000_000_000n,
    }),
  ];
  /** What it says of itself besides. */
  about: MessageInitShape<typeof GetHostResponseSchema> = {};
  memoryBytes = 8n * 1024n ** 3n;
  /** What create calls wait for before they answer. */
  createGate: Promise<void> = Promise.resolve();
  /** Thrown by create and destroy calls, when set. */
  createError: Error | undefined;
  destroyError: Error | undefined;
  /** When it took samples of every sandbox. */
  sampleTimesMs: () => readonly number[] = () => [Date.now()];
  /** The log of every sandbox. */
  readonly logLines: GetSandboxLogsResponse_LogLine[] = [];
  /** Every request for logs, in order. */
  readonly logRequests: GetSandboxLogsRequest[] = [];
  /** What pauses, resumes, forks and snapshots. */
  readonly snapshots = new HostDoubleSnapshots(this);
  /** Thrown when one sandbox is asked for, when set. */
  lookUpError: Error | undefined;
  /** What a look-up finds is told only when this has resolved. */
  lookUpGate: Promise<void> | undefined;
  /** Left out of the list that a watch begins with, as if the list had been made before they were. */
  readonly missingInList = new Set<string>();
  /** While true every call fails as if nobody listened. */
  #offline: boolean = false;
  readonly #watchers = new Set<{ push: (message: WatchMessage) => void; fail: () => void }>();
  readonly #sockets = new Set<Socket>();
  readonly #changes = new EventTarget();
  #folder = '';
  #proxy: Server | undefined;

  constructor(id = 'host-1') {
    this.id = id;
  }

  get proxySocketPath(): string {
    return join(this.#folder, 'proxy.sock');
  }

  get connection(): HostConnection {
    return {
      id: this.id,
      transport: createRouterTransport((router) => this.routes(router)),
      proxyAddress: { socketPath: this.proxySocketPath },
    };
  }

  /** Opens the proxy's socket. `listener` sees requests as they come from the edge, `/proxy/<id>/<port>` and all. */
  async open(listener: RequestListener = (_request, response) => response.end()): Promise<this> {
    this.#folder = await mkdtemp(join(tmpdir(), 'nestbox-host-'));
    const proxy = createServer(listener);
    proxy.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    });
    proxy.listen(this.proxySocketPath);
    await once(proxy, 'listening');
    this.#proxy = proxy;
    return this;
  }

  get proxy(): Server {
    if (this.#proxy === undefined) throw new Error('The double is not open.');
    return this.#proxy;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const proxy = this.#proxy;
    if (proxy !== undefined) {
      const closed = once(proxy, 'close');
      proxy.close();
      for (const socket of this.#sockets) socket.destroy();
      await closed;
    }
    await rm(this.#folder, { recursive: true, force: true });
  }

  goOffline(): void {
    this.#offline = true;
    for (const watcher of this.#watchers) watcher.fail();
  }

  comeBack(): void {
    this.#offline = false;
  }

  /** As if the VM had died. */
  lose(sandboxId: string, reason = 'the VM died'): void {
    const sandbox = this.sandboxes.get(sandboxId);
    if (sandbox === undefined) throw new Error(`There is no ${sandboxId}.`);
    this.sandboxes.delete(sandboxId);
    this.announce({ ...sandbox, state: SandboxState.GONE, reason });
  }

  /** A sandbox that nobody asked for. */
  addUnasked(sandboxId: string, announce = false): void {
    const sandbox = this.boot(sandboxId, 'base0000000000000000');
    if (announce) this.announce(sandbox);
  }

  /** Throws what a host answers when it does not know the sandbox. */
  require(sandboxId: string): Sandbox {
    this.requireOnline();
    const sandbox = this.sandboxes.get(sandboxId);
    if (sandbox === undefined) throw hostError('sandbox_not_found');
    return sandbox;
  }

  /** Brings a sandbox into a state and tells the watchers. */
  setState(sandboxId: string, state: SandboxState, pausedMemory = false): Sandbox {
    const sandbox = { ...this.require(sandboxId), state, pausedMemory };
    this.sandboxes.set(sandboxId, sandbox);
    this.announce(sandbox);
    return sandbox;
  }

  /** Resolves when the condition holds, looking again after each call and each event. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await once(this.#changes, 'change');
  }

  routes(router: ConnectRouter): ConnectRouter {
    return router.service(HostService, {
      ...this.snapshots.rpc(),
      getHost: () => {
        this.requireOnline();
        return {
          hostId: this.id,
          version: '0.1.0',
          vmm: 'fake',
          vmmVersion: '1.2.3',
          accelerator: 'tcg',
          acceleratorReason: 'nothing else was there.',
          memoryBytes: this.memoryBytes,
          cpuCount: 2,
          sandboxCount: this.sandboxes.size,
          ...this.about,
        };
      },
      createSandbox: async (request, { signal }) => {
        this.requireOnline();
        this.created.push(request);
        this.keepOrigin(request);
        this.changed();
        await Promise.race([this.createGate, aborted(signal)]);
        if (this.createError !== undefined) throw this.createError;
        const sandbox = this.sandboxes.get(request.sandboxId) ?? this.boot(request.sandboxId, request.templateId);
        this.announce(sandbox);
        return { sandbox, stages: [{ name: 'boot', startMs: 1, durationMs: 2.5 }] };
      },
      setSandboxEgress: (request) => {
        this.requireOnline();
        this.require(request.sandboxId);
        if (this.egressError !== undefined) throw this.egressError;
        this.egressOf.set(request.sandboxId, request);
        return {};
      },
      getSandbox: async ({ sandboxId }) => {
        this.requireOnline();
        this.lookedFor.push(sandboxId);
        this.changed();
        if (this.lookUpError !== undefined) throw this.lookUpError;
        const answer = { sandbox: this.require(sandboxId), origin: this.origins.get(sandboxId) };
        await this.lookUpGate;
        return answer;
      },
      listSandboxes: () => ({ sandboxes: [...this.sandboxes.values()] }),
      destroySandbox: ({ sandboxId }) => {
        this.requireOnline();
        this.destroyed.push(sandboxId);
        this.changed();
        if (this.destroyError !== undefined) throw this.destroyError;
        const known = this.sandboxes.has(sandboxId);
        if (known) this.lose(sandboxId, 'destroyed');
        return { destroyed: known };
      },
      watchSandboxes: (_request, { signal }) => this.#watch(signal),
      listTemplates: () => {
        this.requireOnline();
        return { templates: this.templates };
      },
      listSandboxMetrics: (request) => {
        this.requireOnline();
        if (!this.sandboxes.has(request.sandboxId)) return { samples: [] };
        const samples = this.sampleTimesMs()
          .map(sampleAt)
          .filter(({ timestampMs }) => timestampMs >= request.startMs && timestampMs <= request.endMs);
        return { samples };
      },
      getLatestMetrics: ({ sandboxIds }) => {
        this.requireOnline();
        const running = sandboxIds.filter((id) => this.sandboxes.get(id)?.state === SandboxState.RUNNING);
        return { samples: Object.fromEntries(running.map((id) => [id, sampleAt(Date.now())])) };
      },
      getSandboxLogs: (request) => {
        this.requireOnline();
        this.logRequests.push(request);
        return { lines: this.logLines };
      },
      getSandboxMetrics: ({ sandboxId }) => {
        this.require(sandboxId);
        return sampleAt(Date.now());
      },
    });
  }

  async *#watch(signal: AbortSignal): AsyncGenerator<WatchMessage> {
    this.requireOnline();
    const listed = [...this.sandboxes.values()].filter(({ sandboxId }) => !this.missingInList.has(sandboxId));
    const queue: WatchMessage[] = [{ event: { case: 'snapshot', value: { sandboxes: listed } } }];
    let failed = false;
    let wake = () => {};
    const watcher = {
      push: (message: WatchMessage) => {
        queue.push(message);
        wake();
      },
      fail: () => {
        failed = true;
        wake();
      },
    };
    this.#watchers.add(watcher);
    signal.addEventListener('abort', () => wake());
    try {
      while (!signal.aborted) {
        if (failed) throw new ConnectError('connection lost', Code.Unavailable);
        const message = queue.shift();
        if (message !== undefined) yield message;
        else {
          const { promise, resolve } = Promise.withResolvers<void>();
          wake = resolve;
          await promise;
        }
      }
    } finally {
      this.#watchers.delete(watcher);
    }
  }

  boot(sandboxId: string, templateId: string): Sandbox {
    const sandbox = create(SandboxSchema, {
      sandboxId,
      templateId,
      state: SandboxState.RUNNING,
      vcpuCount: 2,
      memoryMib: 512,
      diskMib: 4096,
      createdAtMs: BigInt(Date.now()),
      envdVersion: ENVD_VERSION,
    });
    this.sandboxes.set(sandboxId, sandbox);
    return sandbox;
  }

  announce(sandbox: Sandbox): void {
    for (const { push } of this.#watchers) push({ event: { case: 'changed', value: sandbox } });
    this.changed();
  }

  changed(): void {
    this.#changes.dispatchEvent(new Event('change'));
  }

  keepOrigin(request: {
    sandboxId: string;
    notes: string;
    accessToken?: string | undefined;
    allowInternetAccess?: boolean;
  }): void {
    const { sandboxId, notes, accessToken, allowInternetAccess } = request;
    const before = this.origins.get(sandboxId);
    const origin = create(SandboxOriginSchema, {
      notes: notes === '' ? (before?.notes ?? '') : notes,
      hasAccessToken: accessToken === undefined ? (before?.hasAccessToken ?? false) : accessToken !== '',
      allowInternetAccess: allowInternetAccess ?? before?.allowInternetAccess ?? true,
    });
    this.origins.set(sandboxId, origin);
  }

  requireOnline(): void {
    if (this.#offline) throw new ConnectError('connect ECONNREFUSED', Code.Unavailable);
  }
}

function sampleAt(timestampMs: number): GetSandboxMetricsResponse {
  return create(GetSandboxMetricsResponseSchema, {
    timestampMs: BigInt(timestampMs),
    cpuCount: 2,
    cpuUsedPct: 12.5,
    memUsedBytes: 100n,
    memTotalBytes: 200n,
    memCacheBytes: 50n,
    diskUsedBytes: 1000n,
    diskTotalBytes: 4000n,
  });
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    signal.addEventListener('abort', () => reject(new ConnectError('canceled', Code.Canceled)), { once: true });
  });
}
