import { NestboxError } from '@nestbox/contract';
import { KeyedMutex, type NestboxPaths } from '@nestbox/kit';
import type { Template } from '../storage/template-store.ts';
import { BootGate } from './boot-gate.ts';
import { bootSandbox } from './boot-sandbox.ts';
import { recordStopping, removeHoldings } from './clean-up.ts';
import { requireCapacity } from './host-limits.ts';
import type { RunningVm } from './lifecycle.ts';
import { identityFromRecord, isSameSpec, type LiveSandbox } from './live-sandbox.ts';
import { recoverSandboxes } from './recover.ts';
import type {
  SandboxEvent,
  SandboxInfo,
  SandboxManager,
  SandboxMetrics,
  SandboxSpec,
  SandboxTarget,
  StopOptions,
} from './sandbox.ts';
import type { SandboxContext } from './sandbox-context.ts';
import { consoleTail, toSandboxError } from './sandbox-error.ts';
import { SandboxTable } from './sandbox-table.ts';
import { watchForStalls } from './stall-watch.ts';

/** Finds again what runs on this host, removes what belongs to no sandbox, and answers the manager of it all. */
export async function createSandboxManager(context: SandboxContext, paths: NestboxPaths): Promise<SandboxManager> {
  const recovered = await recoverSandboxes(context, paths);
  const manager = new HostSandboxes(context);
  for (const { record, vm, stall } of recovered)
    manager.adopt(identityFromRecord(record), { state: 'running', vm, stall });
  return manager;
}

/** A create that others may join and a destroy can end. */
interface PendingCreate {
  readonly spec: SandboxSpec;
  readonly cancel: AbortController;
  readonly result: Promise<SandboxInfo>;
}

class HostSandboxes implements SandboxManager {
  readonly #context: SandboxContext;
  readonly #table = new SandboxTable();
  readonly #creating = new Map<string, PendingCreate>();
  /** Ends the exit watch of each running VM. */
  readonly #exitWatches = new Map<string, () => void>();
  /** One task at a time for each sandbox id. */
  readonly #serial = new KeyedMutex();
  readonly #gate: BootGate;
  readonly #stopStallWatch: () => Promise<void>;
  readonly #stopping = new AbortController();

  constructor(context: SandboxContext) {
    this.#context = context;
    this.#gate = new BootGate(context.limits.maxConcurrentBoots);
    this.#stopStallWatch = watchForStalls(context, () => this.#table.values());
  }

  /** Takes over a sandbox that a host agent before this one started. */
  adopt(...[identity, lifecycle]: Parameters<SandboxTable['add']>): void {
    const sandbox = this.#table.add(identity, lifecycle);
    if (lifecycle.state !== 'running') return;
    this.#watchExit(sandbox, lifecycle.vm);
    if (lifecycle.stall !== undefined) return;
    this.#confirm(sandbox, lifecycle.vm).catch((error: unknown) =>
      this.#context.logger.error({ err: error, sandboxId: sandbox.id }, 'an unreachable sandbox could not be ended'),
    );
  }

  async create(spec: SandboxSpec, signal?: AbortSignal): Promise<SandboxInfo> {
    const { sandboxId } = spec;
    const pending = this.#creating.get(sandboxId);
    if (pending !== undefined) {
      requireSameSpec(pending.spec, spec);
      return waitFor(pending.result, signal);
    }
    const known = this.#table.get(sandboxId);
    if (known !== undefined) {
      requireSameSpec(known.identity.spec, spec);
      if (known.lifecycle.state === 'running') return known.info;
      throw new NestboxError('sandbox_stopping', `Sandbox ${sandboxId} is being destroyed.`);
    }
    if (this.#stopping.signal.aborted) throw new NestboxError('host_unavailable', 'This host agent is stopping.');

    const cancel = new AbortController();
    const result = this.#serial
      .run(sandboxId, () => this.#start(spec, cancel.signal))
      .finally(() => this.#creating.delete(sandboxId));
    this.#creating.set(sandboxId, { spec, cancel, result });
    return waitFor(result, signal);
  }

  get(sandboxId: string): SandboxInfo {
    return this.#table.require(sandboxId).info;
  }

  list(): readonly SandboxInfo[] {
    return this.#table.list();
  }

  async destroy(sandboxId: string): Promise<boolean> {
    const pending = this.#creating.get(sandboxId);
    const reason = 'It was destroyed while it was starting.';
    pending?.cancel.abort(new NestboxError('sandbox_stopping', `Sandbox ${sandboxId} is gone: ${reason}`));
    const starting = this.#table.get(sandboxId);
    if (starting?.lifecycle.state === 'starting')
      starting.transition({ state: 'stopping', reason, remains: undefined });
    return this.#serial.run(sandboxId, async () => {
      const sandbox = this.#table.get(sandboxId);
      if (sandbox === undefined) return pending !== undefined;
      await this.#end(sandbox, 'It was destroyed.');
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

  async templates(): Promise<readonly Template[]> {
    const { templates, damaged } = await this.#context.templates.list();
    for (const { templateId, reason } of damaged)
      this.#context.logger.warn({ templateId, reason }, 'a template cannot be used');
    return templates;
  }

  target(sandboxId: string): SandboxTarget {
    const { sandbox, vm } = this.#table.requireRunning(sandboxId);
    return { sandboxId, address: vm.slot.hostReachableAddress, beginActivity: () => sandbox.beginActivity() };
  }

  lastActivityMs(sandboxId: string): number {
    return this.#table.require(sandboxId).lastActivityMs;
  }

  async stop({ destroySandboxes }: StopOptions): Promise<void> {
    this.#stopping.abort();
    const creates = [...this.#creating.values()];
    for (const { cancel } of creates)
      cancel.abort(new NestboxError('host_unavailable', 'This host agent stopped while the sandbox was starting.'));
    await Promise.allSettled(creates.map(({ result }) => result));
    await this.#stopStallWatch();
    if (destroySandboxes) await this.#destroyAll();
    for (const stopWatching of this.#exitWatches.values()) stopWatching();
    this.#exitWatches.clear();
    for (const { lifecycle } of this.#table.values()) if (lifecycle.state === 'running') lifecycle.vm.guest.close();
    this.#table.events.close();
  }

  async #destroyAll(): Promise<void> {
    const results = await Promise.allSettled(this.#table.list().map(({ sandboxId }) => this.destroy(sandboxId)));
    for (const result of results)
      if (result.status === 'rejected')
        this.#context.logger.error(
          { err: result.reason },
          'a sandbox could not be destroyed; the next start tries again',
        );
  }

  /** The whole of a create. Alone with its sandbox id. */
  async #start(spec: SandboxSpec, signal: AbortSignal): Promise<SandboxInfo> {
    const { templates, currentImages, limits, logger } = this.#context;
    const startedAtMs = performance.now();
    let begun: LiveSandbox | undefined;
    try {
      const [template, images] = await Promise.all([templates.get(spec.templateId), currentImages()]);
      signal.throwIfAborted();
      const { templateId, vcpuCount, memoryMib, diskMib } = template;
      requireCapacity(limits, this.#table.list(), memoryMib);
      const identity = { spec, templateId, vcpuCount, memoryMib, diskMib, createdAtMs: Date.now() };
      const sandbox = this.#table.add(identity, { state: 'starting' });
      begun = sandbox;
      const vm = await this.#gate.run(() => bootSandbox(this.#context, { identity, template, images }, signal), signal);
      if (signal.aborted) {
        // The destroy came when everything was there already.
        vm.guest.close();
        await removeHoldings(this.#context, { sandboxId: sandbox.id, vm: vm.handle, slot: vm.slot });
        throw signal.reason;
      }
      sandbox.transition({ state: 'running', vm, stall: undefined });
      this.#watchExit(sandbox, vm);
      const bootMs = Math.round(performance.now() - startedAtMs);
      logger.info({ sandboxId: sandbox.id, templateId, bootMs }, 'a sandbox runs');
      return sandbox.info;
    } catch (error) {
      const known = toSandboxError(error, spec.sandboxId);
      logger.warn({ err: known, sandboxId: spec.sandboxId }, 'a sandbox could not be created');
      if (begun !== undefined) this.#table.remove(begun, known.message);
      throw known;
    }
  }

  /** Ends a sandbox that runs, or whose end did not work before. Alone with its sandbox id. */
  async #end(sandbox: LiveSandbox, reason: string): Promise<void> {
    if (sandbox.lifecycle.state === 'running') {
      const remains = sandbox.lifecycle.vm;
      this.#exitWatches.get(sandbox.id)?.();
      this.#exitWatches.delete(sandbox.id);
      sandbox.transition({ state: 'stopping', reason, remains });
      remains.guest.close();
      await recordStopping(this.#context, sandbox.id);
    }
    const { lifecycle } = sandbox;
    if (lifecycle.state !== 'stopping') return;
    const { remains } = lifecycle;
    try {
      await removeHoldings(this.#context, { sandboxId: sandbox.id, vm: remains?.handle, slot: remains?.slot });
    } catch (error) {
      throw new NestboxError('internal', `Sandbox ${sandbox.id} could not be ended; try again.`, { cause: error });
    }
    this.#table.remove(sandbox, lifecycle.reason);
    this.#context.logger.info({ sandboxId: sandbox.id, reason: lifecycle.reason }, 'a sandbox is gone');
  }

  /** A sandbox that was taken over must answer; no start waits for that, since a busy guest may take its time. */
  async #confirm(sandbox: LiveSandbox, vm: RunningVm): Promise<void> {
    const limitMs = this.#context.limits.takeoverTimeoutMs;
    try {
      await vm.guest.waitUntilReady(limitMs, this.#stopping.signal);
    } catch (error) {
      if (this.#stopping.signal.aborted) return;
      await this.#serial.run(sandbox.id, async () => {
        if (sandbox.lifecycle.state !== 'running') return;
        this.#context.logger.warn({ err: error, sandboxId: sandbox.id }, 'a guest agent no longer answers');
        await this.#end(sandbox, `After a restart of the host agent its guest did not answer within ${limitMs} ms.`);
      });
    }
  }

  #watchExit(sandbox: LiveSandbox, vm: RunningVm): void {
    const stopWatching = this.#context.driver.onExit(vm.handle, (reason) => {
      this.#exitWatches.delete(sandbox.id);
      this.#vmExited(sandbox, reason).catch((error: unknown) =>
        this.#context.logger.error({ err: error, sandboxId: sandbox.id }, 'a dead VM could not be cleaned up'),
      );
    });
    this.#exitWatches.set(sandbox.id, stopWatching);
  }

  async #vmExited(sandbox: LiveSandbox, reason: string): Promise<void> {
    await this.#serial.run(sandbox.id, async () => {
      if (sandbox.lifecycle.state !== 'running') return;
      const tail = await consoleTail(this.#context.layout.sandboxConsole(sandbox.id));
      await this.#end(
        sandbox,
        `Its VM ended: ${reason}${tail === '' ? '' : `\nThe guest's console ends with:\n${tail}`}`,
      );
    });
  }
}

function requireSameSpec(known: SandboxSpec, asked: SandboxSpec): void {
  if (!isSameSpec(known, asked))
    throw new NestboxError('conflict', `There is a sandbox ${asked.sandboxId} already, created with other settings.`);
}

/** Ends only the waiting when the caller goes; what is waited for goes on. */
async function waitFor<T>(result: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return result;
  const { promise: gone, reject } = Promise.withResolvers<never>();
  const onAbort = () =>
    reject(new NestboxError('deadline_exceeded', 'Nobody waits for this sandbox any more.', { cause: signal.reason }));
  signal.addEventListener('abort', onAbort, { once: true });
  if (signal.aborted) onAbort();
  try {
    return await Promise.race([result, gone]);
  } finally {
    signal.removeEventListener('abort', onAbort);
    // A failure that comes after its last waiter left has been logged by the create itself.
    result.catch(() => {});
  }
}
