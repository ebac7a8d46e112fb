import { statfs } from 'node:fs/promises';
import { type EgressSettings, NestboxError } from '@nestbox/contract';
import { KeyedMutex, type NestboxPaths } from '@nestbox/kit';
import type { DiskUsage } from '../storage/disk-usage.ts';
import type { Template } from '../storage/template-store.ts';
import type { LogEntry } from '../telemetry/log-entry.ts';
import type { MetricSample } from '../telemetry/metric-history.ts';
import type { LogQuery } from '../telemetry/sandbox-logs.ts';
import { BootGate } from './boot-gate.ts';
import { CopyStarts } from './copy-starts.ts';
import { CreateCounts } from './create-counts.ts';
import { diskUsageOf } from './disk-items.ts';
import { DiskNoter } from './disk-noter.ts';
import { DiskTidier } from './disk-tidier.ts';
import { endSandbox, vmExited } from './end-sandbox.ts';
import { forkSandbox } from './fork-sandbox.ts';
import type { HostState } from './host-state.ts';
import { unansweringVmm } from './let-go-on.ts';
import type { RunningVm } from './lifecycle.ts';
import type { LiveSandbox } from './live-sandbox.ts';
import { pauseSandbox } from './pause-sandbox.ts';
import { PendingCreates, requireSameSpec, waitFor } from './pending-creates.ts';
import { type Recovered, recoverSandboxes } from './recover.ts';
import { resumeSandbox } from './resume-sandbox.ts';
import { RunningVms } from './running-vms.ts';
import type {
  ForkCopy,
  ForkOutcome,
  MetricRange,
  PauseOptions,
  ResumeOptions,
  SandboxActivity,
  SandboxEvent,
  SandboxInfo,
  SandboxManager,
  SandboxMetrics,
  SandboxOrigin,
  SandboxSpec,
  SandboxTarget,
  SnapshotSpec,
  StopOptions,
} from './sandbox.ts';
import type { SandboxContext } from './sandbox-context.ts';
import { toSandboxError } from './sandbox-error.ts';
import { SandboxTable } from './sandbox-table.ts';
import { DEFAULT_SCRUB, Scrubber, type ScrubSettings } from './scrubber.ts';
import { setEgress } from './set-egress.ts';
import { SnapshotRoom } from './snapshot-room.ts';
import { snapshotSandbox } from './snapshot-sandbox.ts';
import { watchForStalls } from './stall-watch.ts';
import { startSandbox } from './start-sandbox.ts';
import { TelemetryCollector } from './telemetry-collector.ts';
import { deleteTemplate, type ListedTemplate, listTemplates } from './template-list.ts';
import { TemplateSnapshots } from './template-snapshots.ts';
import { TraceBook, type Traced, type TracedOperation } from './trace.ts';
import type { WarmOrder } from './warm-order.ts';
import { WarmPool } from './warm-pool.ts';

/** Finds again what is on this host, removes what belongs to no sandbox, and answers the manager of it all. */
export async function createSandboxManager(
  context: SandboxContext,
  paths: NestboxPaths,
  warm: readonly WarmOrder[] = [],
  scrub: ScrubSettings = DEFAULT_SCRUB,
): Promise<SandboxManager> {
  const recovered = await recoverSandboxes(context, paths);
  const manager = new HostSandboxes(context, warm);
  for (const sandbox of recovered) manager.adopt(sandbox);
  manager.scrub(scrub);
  return manager;
}

/** A sample that is younger is as good as one of now. */
const FRESH_SAMPLE_MS = 2500;

class HostSandboxes implements SandboxManager {
  readonly #context: SandboxContext;
  readonly #table = new SandboxTable();
  readonly #serial = new KeyedMutex();
  readonly #creates = new PendingCreates();
  readonly #traces = new TraceBook();
  /** Forks and snapshots: they take part in more than one sandbox's or template's turn. */
  readonly #underWay = new Set<Promise<unknown>>();
  readonly #host: HostState;
  readonly #copies: CopyStarts;
  #scrubber: Scrubber | undefined;
  #noter: DiskNoter | undefined;
  readonly #stopStallWatch: () => Promise<void>;
  readonly #stopping = new AbortController();

  constructor(context: SandboxContext, warm: readonly WarmOrder[]) {
    this.#context = context;
    const gate = new BootGate(context.limits.maxConcurrentBoots);
    const stopping = this.#stopping.signal;
    const collector = new TelemetryCollector(context, () => this.#table.values());
    this.#table.events.onChange((info) => collector.noteChange(info));
    const snapshots = new TemplateSnapshots(context, gate, stopping);
    this.#host = {
      context,
      table: this.#table,
      serial: this.#serial,
      gate,
      counts: new CreateCounts(),
      vms: new RunningVms(context, (sandbox, vm, reason) => vmExited(this.#host, sandbox, vm, reason)),
      tidier: new DiskTidier(context, gate),
      snapshots,
      warm: new WarmPool({ context, gate, snapshots, orders: warm, present: () => this.#table.list(), stopping }),
      collector,
      room: new SnapshotRoom(context, () => this.#table.list()),
      stopping,
    };
    this.#copies = new CopyStarts(this.#host, this.#creates, this.#traces);
    this.#table.events.onChange(({ state }) => {
      if (state === 'gone' || state === 'paused') this.#host.warm.fill();
    });
    this.#stopStallWatch = watchForStalls(this.#host, () => this.#table.values());
  }

  /** Takes over a sandbox of a host agent before this one. */
  adopt({ identity, lifecycle }: Recovered): void {
    const sandbox = this.#table.add(identity, lifecycle);
    if (lifecycle.state !== 'running') return;
    this.#host.vms.watch(sandbox, lifecycle.vm);
    if (lifecycle.stall !== undefined) return;
    this.#confirm(sandbox, lifecycle.vm).catch((error: unknown) =>
      this.#context.logger.error({ err: error, sandboxId: sandbox.id }, 'an unreachable sandbox could not be ended'),
    );
  }

  /** To be called once everything that was here before has been taken over. */
  scrub(settings: ScrubSettings): void {
    this.#scrubber = new Scrubber(this.#host, settings);
    this.#noter = new DiskNoter(this.#host, settings.noteAfterMs);
  }

  async prepareTemplates(onPrepare?: (template: Template) => void): Promise<void> {
    try {
      await this.#host.snapshots.renewMissing(onPrepare);
    } finally {
      this.#host.warm.fill();
      this.#noter?.noteSoon();
    }
  }

  async create(spec: SandboxSpec, signal?: AbortSignal): Promise<Traced<SandboxInfo>> {
    const { sandboxId } = spec;
    const pending = this.#creates.join(spec);
    if (pending !== undefined) return waitFor(pending, signal);
    const known = this.#table.get(sandboxId);
    if (known !== undefined) {
      requireSameSpec(known.identity.spec, spec);
      const { state } = known.lifecycle;
      if (state === 'running') return { result: known.info, stages: [] };
      if (state === 'stopping') throw new NestboxError('sandbox_stopping', `Sandbox ${sandboxId} is being destroyed.`);
      throw new NestboxError('sandbox_paused', `Sandbox ${sandboxId} is there already, and ${state}.`);
    }
    this.#requireNotStopping();
    const created = this.#creates.begin(spec, (cancelled) =>
      this.#serial.run(sandboxId, () =>
        this.#traces.record(sandboxId, 'create', (trace) => startSandbox(this.#host, spec, cancelled, trace)),
      ),
    );
    return waitFor(created, signal);
  }

  pause(sandboxId: string, options: PauseOptions): Promise<Traced<SandboxInfo>> {
    this.#requireNotStopping();
    return this.#early(sandboxId, 'pause', (trace, onPaused) =>
      pauseSandbox(this.#host, sandboxId, { ...options, onPaused }, trace),
    );
  }

  resume(sandboxId: string, options: ResumeOptions): Promise<Traced<SandboxInfo>> {
    this.#requireNotStopping();
    return this.#early(sandboxId, 'resume', (trace, onRunning) =>
      resumeSandbox(this.#host, sandboxId, { ...options, onRunning }, this.#stopping.signal, trace),
    );
  }

  async fork(sandboxId: string, copies: readonly ForkCopy[]): Promise<Traced<readonly ForkOutcome[]>> {
    this.#requireNotStopping();
    const forking = this.#traces.record(sandboxId, 'fork', async (trace) => {
      try {
        return await forkSandbox(this.#host, this.#copies, sandboxId, copies, trace);
      } catch (error) {
        throw toSandboxError(error, sandboxId);
      }
    });
    return this.#awaitedByStop(forking);
  }

  async snapshot(sandboxId: string, spec: SnapshotSpec): Promise<Traced<Template>> {
    this.#requireNotStopping();
    const snapshotting = this.#traces.record(sandboxId, 'snapshot', async (trace) => {
      try {
        const template = await snapshotSandbox(this.#host, sandboxId, spec, trace);
        this.#noter?.noteSoon();
        return template;
      } catch (error) {
        throw toSandboxError(error, sandboxId);
      }
    });
    return this.#awaitedByStop(snapshotting);
  }

  async setEgress(sandboxId: string, egress: EgressSettings): Promise<void> {
    this.#requireNotStopping();
    try {
      await this.#serial.run(sandboxId, () => setEgress(this.#host, sandboxId, egress));
    } catch (error) {
      throw toSandboxError(error, sandboxId);
    }
  }

  deleteTemplate(idOrName: string): Promise<boolean> {
    return deleteTemplate(this.#host, idOrName);
  }

  get(sandboxId: string): SandboxInfo {
    return this.#table.require(sandboxId).info;
  }

  origin(sandboxId: string): SandboxOrigin {
    const { notes, accessToken, allowInternetAccess } = this.#table.require(sandboxId).identity.spec;
    return { notes, hasAccessToken: accessToken !== undefined, allowInternetAccess };
  }

  list(): readonly SandboxInfo[] {
    return this.#table.list();
  }

  async destroy(sandboxId: string): Promise<boolean> {
    const reason = 'It was destroyed while it was starting.';
    const pending = this.#creates.cancel(
      sandboxId,
      new NestboxError('sandbox_stopping', `Sandbox ${sandboxId} is gone: ${reason}`),
    );
    const starting = this.#table.get(sandboxId);
    if (starting?.lifecycle.state === 'starting')
      starting.transition({ state: 'stopping', reason, remains: undefined });
    return this.#serial.run(sandboxId, async () => {
      const sandbox = this.#table.get(sandboxId);
      if (sandbox === undefined) return pending;
      await endSandbox(this.#host, sandbox, 'It was destroyed.');
      return true;
    });
  }

  watch(signal: AbortSignal): AsyncIterable<SandboxEvent> {
    return this.#table.events.watch(() => this.#table.list(), signal);
  }

  onChange(listener: (sandbox: SandboxInfo) => void): () => void {
    return this.#table.events.onChange(listener);
  }

  async metrics(sandboxId: string, signal?: AbortSignal): Promise<SandboxMetrics> {
    const { vm } = this.#table.requireRunning(sandboxId);
    try {
      return await vm.guest.metrics(signal);
    } catch (error) {
      throw toSandboxError(error, sandboxId);
    }
  }

  async metricHistory(sandboxId: string, range: MetricRange): Promise<readonly MetricSample[]> {
    const { metrics } = this.#context.telemetry;
    await this.#requireTelemetry(sandboxId);
    const sandbox = this.#table.get(sandboxId);
    const newest = sandbox && (await metrics.latest(sandboxId));
    if (sandbox !== undefined && (newest === undefined || Date.now() - newest.timestampMs > FRESH_SAMPLE_MS))
      await this.#host.collector.refresh(sandbox);
    return metrics.read(sandboxId, range);
  }

  async latestMetrics(sandboxIds: readonly string[]): Promise<ReadonlyMap<string, MetricSample>> {
    const found = new Map<string, MetricSample>();
    for (const sandboxId of sandboxIds) {
      const sandbox = this.#table.get(sandboxId);
      if (sandbox?.lifecycle.state !== 'running') continue;
      const { metrics } = this.#context.telemetry;
      if ((await metrics.latest(sandboxId)) === undefined) await this.#host.collector.refresh(sandbox);
      const sample = await metrics.latest(sandboxId);
      if (sample !== undefined) found.set(sandboxId, sample);
    }
    return found;
  }

  async logs(sandboxId: string, query: LogQuery): Promise<readonly LogEntry[]> {
    await this.#requireTelemetry(sandboxId);
    const sandbox = this.#table.get(sandboxId);
    if (sandbox !== undefined) await this.#host.collector.refresh(sandbox);
    return this.#context.telemetry.logs.read(sandboxId, query);
  }

  /** Throws sandbox_not_found for one that is not here and has left nothing. */
  async #requireTelemetry(sandboxId: string): Promise<void> {
    if (this.#table.get(sandboxId) === undefined && !(await this.#context.telemetry.has(sandboxId)))
      this.#table.require(sandboxId);
  }

  async activity(sandboxId: string, signal?: AbortSignal): Promise<SandboxActivity> {
    const sandbox = this.#table.require(sandboxId);
    const { lifecycle, lastActivityMs } = sandbox;
    if (lifecycle.state !== 'running')
      return { lastActivityAtMs: lastActivityMs, runningCommands: 0, openConnections: 0 };
    try {
      const guest = await lifecycle.vm.guest.activity(signal);
      const busy = guest.running_processes > 0 || guest.open_connections > 0;
      return {
        lastActivityAtMs: busy ? Date.now() : Math.max(lastActivityMs, guest.last_request_at_ms),
        runningCommands: guest.running_processes,
        openConnections: guest.open_connections,
      };
    } catch (error) {
      throw toSandboxError(error, sandboxId);
    }
  }

  operations(sandboxId: string): readonly TracedOperation[] {
    return this.#traces.of(sandboxId);
  }

  templates(): Promise<readonly ListedTemplate[]> {
    return listTemplates(this.#host);
  }

  warmSandboxIds(templateId: string): readonly string[] {
    return this.#host.warm.ids(templateId);
  }

  createCounts(): Pick<CreateCounts, 'succeeded' | 'failed'> {
    return this.#host.counts;
  }

  async diskUsage(): Promise<DiskUsage> {
    const { layout } = this.#context;
    // Before its findings are collected: what says that it has ended has them all.
    const isVerifying = this.#scrubber?.isVerifying ?? false;
    const [items, { bavail, blocks, bsize }, verifiedAtMs] = await Promise.all([
      diskUsageOf(this.#context, this.#table.list(), (template) => this.#host.snapshots.damageOf(template)),
      statfs(layout.sandboxesDir),
      this.#scrubber?.verifiedAtMs(),
    ]);
    return { items, freeBytes: bavail * bsize, totalBytes: blocks * bsize, isVerifying, verifiedAtMs };
  }

  verifyDisk(): void {
    this.#requireNotStopping();
    this.#scrubber?.verifyNow();
  }

  target(sandboxId: string): SandboxTarget {
    const { sandbox, vm } = this.#table.requireRunning(sandboxId);
    return { sandboxId, address: vm.slot.hostReachableAddress, beginActivity: () => sandbox.beginActivity() };
  }

  lastActivityMs(sandboxId: string): number {
    return this.#table.require(sandboxId).lastActivityMs;
  }

  async stop({ destroySandboxes }: StopOptions): Promise<void> {
    const { vms, tidier, snapshots, warm } = this.#host;
    const reason = new NestboxError('host_unavailable', 'This host agent stopped while the sandbox was starting.');
    this.#stopping.abort(reason);
    await this.#creates.cancelAll(reason);
    const disks = [this.#scrubber?.close(), this.#noter?.close()];
    await Promise.all([this.#stopStallWatch(), ...disks, tidier.close(), snapshots.settled(), warm.close()]);
    // A pause that is under way comes to its end; nothing begins any more.
    await Promise.all([...this.#table.values()].map(({ id }) => this.#serial.run(id, async () => {})));
    await Promise.allSettled(this.#underWay);
    if (destroySandboxes) await this.#destroyRunning();
    await this.#host.collector.close();
    vms.close();
    for (const { lifecycle } of this.#table.values()) if (lifecycle.state === 'running') lifecycle.vm.guest.close();
    this.#table.events.close();
  }

  /** Paused ones hold nothing of the host but disk, and are there for later. */
  async #destroyRunning(): Promise<void> {
    const running = this.#table.list().filter(({ state }) => state !== 'paused');
    const ends = running.map(({ sandboxId }) =>
      this.destroy(sandboxId).catch((error: unknown) =>
        this.#context.logger.error(
          { err: error, sandboxId },
          'a sandbox could not be destroyed; the next start tries again',
        ),
      ),
    );
    await Promise.all(ends);
  }

  /** An operation that answers before its last step, which nobody needs to wait for but the next operation. */
  #early(
    sandboxId: string,
    name: string,
    operation: (
      trace: Parameters<Parameters<TraceBook['record']>[2]>[0],
      done: (info: SandboxInfo) => void,
    ) => Promise<void>,
  ): Promise<Traced<SandboxInfo>> {
    return this.#traces.record(sandboxId, name, (trace) => {
      const { promise, resolve, reject } = Promise.withResolvers<SandboxInfo>();
      let answered = false;
      this.#serial
        .run(sandboxId, () =>
          operation(trace, (info) => {
            answered = true;
            resolve(info);
          }),
        )
        .catch((error: unknown) => {
          if (answered) this.#context.logger.error({ err: error, sandboxId }, `what follows a ${name} failed`);
          reject(toSandboxError(error, sandboxId));
        });
      return promise;
    });
  }

  /** A sandbox that was taken over must answer; no start waits for that, since a busy guest may take its time. */
  async #confirm(sandbox: LiveSandbox, vm: RunningVm): Promise<void> {
    const limitMs = this.#context.limits.takeoverTimeoutMs;
    try {
      await vm.guest.waitUntilReady(limitMs, this.#stopping.signal);
    } catch (error) {
      if (this.#stopping.signal.aborted) return;
      await this.#serial.run(sandbox.id, async () => {
        const { lifecycle } = sandbox;
        if (lifecycle.state !== 'running' || lifecycle.vm.handle !== vm.handle) return;
        const stall = await unansweringVmm(this.#context, sandbox.id, vm);
        if (stall !== undefined) {
          sandbox.transition({ ...lifecycle, stall });
          return;
        }
        this.#context.logger.warn({ err: error, sandboxId: sandbox.id }, 'a guest agent no longer answers');
        await endSandbox(
          this.#host,
          sandbox,
          `After a restart of the host agent its guest did not answer within ${limitMs} ms.`,
        );
      });
    }
  }

  async #awaitedByStop<T>(operation: Promise<T>): Promise<T> {
    this.#underWay.add(operation);
    try {
      return await operation;
    } finally {
      this.#underWay.delete(operation);
    }
  }

  #requireNotStopping(): void {
    if (this.#stopping.signal.aborted) throw new NestboxError('host_unavailable', 'This host agent is stopping.');
  }
}
