import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { isLayerName } from '../storage/disk-layers.ts';
import { isRawDiskFile } from '../storage/raw-disks.ts';
import { sealDisk } from '../storage/snapshot-manifest.ts';
import { backgroundPace } from './background-pace.ts';
import type { BootGate } from './boot-gate.ts';
import type { PausedVm, RunningVm } from './lifecycle.ts';
import type { LiveSandbox } from './live-sandbox.ts';
import { sealedDisk } from './resting-disk.ts';
import type { DiskStacks } from './root-disks.ts';
import type { SandboxContext } from './sandbox-context.ts';
import { recordPaused, recordRunning } from './write-record.ts';

/** More layers than this are merged; each costs the guest a look-up when it reads. */
export const MAX_LAYERS = 8;

/** Whoever pauses and resumes faster than layers are merged has to wait from here on. */
export const URGENT_LAYERS = 4 * MAX_LAYERS;

interface Task {
  /** Of all of it. */
  readonly abort: AbortController;
  /** Of what comes after the merging, which is never urgent. */
  readonly abortNoting: AbortController;
  readonly done: Promise<void>;
  readonly isUrgent: boolean;
  /** It only reads, and makes way for putting the disk in order. */
  readonly isGuest: boolean;
}

/** What noting the content of a disk may take of the time. */
const NOTING_PART = 0.25;

/**
 * Puts a sandbox's disk in order in the background: keeps its stack of layers short, since a resume and a fork each add one, and notes what the disk
 * of a paused one contains. Whoever is about to do something with a sandbox stops it first; what was begun is then dropped, and nothing
 * has changed.
 */
export class DiskTidier {
  readonly #context: SandboxContext;
  readonly #gate: BootGate;
  readonly #tasks = new Map<string, Task>();
  /** Sandboxes that somebody has stopped the work on: until they are given back nothing begins by itself. */
  readonly #held = new Set<string>();
  readonly #closed = new AbortController();

  constructor(context: SandboxContext, gate: BootGate) {
    this.#context = context;
    this.#gate = gate;
  }

  /** To be called when whatever `stop` was called for has come to its end. */
  begin(sandbox: LiveSandbox): void {
    this.#held.delete(sandbox.id);
    if (this.#closed.signal.aborted) return;
    const before = this.#tasks.get(sandbox.id);
    if (before?.isGuest) {
      before.abort.abort();
      void before.done.then(() => {
        // Somebody may have stopped it meanwhile.
        if (!this.#held.has(sandbox.id)) this.begin(sandbox);
      });
    }
    if (before !== undefined) return;
    const abort = new AbortController();
    const abortNoting = new AbortController();
    const noting = AbortSignal.any([abort.signal, abortNoting.signal]);
    const done = this.#merge(sandbox, abort.signal)
      .then(() => this.#note(sandbox, noting))
      .finally(() => this.#tasks.delete(sandbox.id));
    const isUrgent = layersOf(sandbox).length > URGENT_LAYERS;
    this.#tasks.set(sandbox.id, { abort, abortNoting, done, isUrgent, isGuest: false });
  }

  /**
   * Lets somebody read the files of a paused sandbox, after what is under way and until somebody needs them: then the signal that the work
   * gets is aborted, and so it is by `signal`. Resolves when that has ended, however; what it threw for another reason is logged. Of a sandbox that is
   * not paused it does nothing.
   */
  async whilePaused(
    sandbox: LiveSandbox,
    signal: AbortSignal,
    work: (paused: PausedVm, signal: AbortSignal) => Promise<void>,
  ): Promise<void> {
    for (let before = this.#tasks.get(sandbox.id); before !== undefined; before = this.#tasks.get(sandbox.id))
      await before.done;
    const { lifecycle } = sandbox;
    if (lifecycle.state !== 'paused' || lifecycle.paused.isRecordDamaged) return;
    if (signal.aborted || this.#closed.signal.aborted || this.#held.has(sandbox.id)) return;
    const abort = new AbortController();
    const ending = AbortSignal.any([abort.signal, signal]);
    const done = work(lifecycle.paused, ending)
      .catch((error: unknown) => {
        if (!ending.aborted)
          this.#context.logger.warn({ err: error, sandboxId: sandbox.id }, 'a paused sandbox could not be read');
      })
      .finally(() => this.#tasks.delete(sandbox.id));
    this.#tasks.set(sandbox.id, { abort, abortNoting: abort, done, isUrgent: false, isGuest: true });
    await done;
  }

  /**
   * Resolves when nothing is done to the sandbox's disk any more. What is urgent is waited for. Nothing begins by itself until `begin`, or `release`
   * of one that stays as it was.
   */
  async stop(sandboxId: string): Promise<void> {
    this.#held.add(sandboxId);
    const task = this.#tasks.get(sandboxId);
    task?.abortNoting.abort();
    if (task?.isUrgent === false) task.abort.abort();
    await task?.done;
  }

  release(sandboxId: string): void {
    this.#held.delete(sandboxId);
  }

  /** Of a sandbox that ends: nothing is urgent any more. */
  async drop(sandboxId: string): Promise<void> {
    this.#held.delete(sandboxId);
    const task = this.#tasks.get(sandboxId);
    task?.abort.abort();
    await task?.done;
  }

  /** Nothing begins any more. Resolves when what was under way has been dropped. */
  async close(): Promise<void> {
    this.#closed.abort();
    await Promise.all([...this.#tasks.keys()].map((sandboxId) => this.drop(sandboxId)));
  }

  /** Resolves when whatever is under way has ended. */
  async settled(): Promise<void> {
    await Promise.all([...this.#tasks.values()].map(({ done }) => done));
  }

  async #merge(sandbox: LiveSandbox, signal: AbortSignal): Promise<void> {
    const { stacks } = this.#context.disks;
    const { lifecycle } = sandbox;
    if (stacks === undefined) return;
    try {
      if (lifecycle.state === 'paused') await this.#mergePaused(stacks, sandbox, lifecycle.paused, signal);
      else if (lifecycle.state === 'running') await this.#mergeRunning(stacks, sandbox, lifecycle.vm, signal);
    } catch (error) {
      if (!signal.aborted)
        this.#context.logger.warn({ err: error, sandboxId: sandbox.id }, 'the layers of a disk could not be merged');
    }
  }

  async #note(sandbox: LiveSandbox, signal: AbortSignal): Promise<void> {
    const { lifecycle } = sandbox;
    if (lifecycle.state !== 'paused' || signal.aborted) return;
    const { diskNotes, layout, logger } = this.#context;
    const disk = sealedDisk(layout.sandboxDir(sandbox.id), lifecycle.paused.disk);
    try {
      await diskNotes.note(disk, { signal, pace: backgroundPace(this.#gate, NOTING_PART, signal) });
    } catch (error) {
      if (!signal.aborted)
        logger.warn({ err: error, sandboxId: sandbox.id }, 'what a disk contains could not be noted');
    }
  }

  async #mergePaused(stacks: DiskStacks, sandbox: LiveSandbox, paused: PausedVm, signal: AbortSignal): Promise<void> {
    const folder = this.#context.layout.sandboxDir(sandbox.id);
    const layers = await stacks.shorten(folder, paused.machine.layers, MAX_LAYERS, signal);
    signal.throwIfAborted();
    if (layers === paused.machine.layers) return;
    const disk = await sealDisk(folder, layers);
    const tidied = { ...paused, machine: { ...paused.machine, layers }, disk };
    await recordPaused(this.#context, sandbox.identity, tidied);
    sandbox.transition({ state: 'paused', paused: tidied });
    await removeOtherLayers(folder, layers);
  }

  async #mergeRunning(stacks: DiskStacks, sandbox: LiveSandbox, vm: RunningVm, signal: AbortSignal): Promise<void> {
    const [top, ...lower] = vm.machine.layers;
    if (top === undefined || lower.length < MAX_LAYERS) return;
    const folder = this.#context.layout.sandboxDir(sandbox.id);
    await stacks.flatten(folder, vm.handle, signal);
    const { lifecycle } = sandbox;
    // A stall that began or ended meanwhile is the same VM.
    if (lifecycle.state !== 'running' || lifecycle.vm !== vm) return;
    const flat = { ...vm, machine: { ...vm.machine, layers: [top] } };
    sandbox.transition({ ...lifecycle, vm: flat });
    await recordRunning(this.#context, sandbox.identity, flat);
    await removeOtherLayers(folder, [top]);
  }
}

function layersOf({ lifecycle }: LiveSandbox): readonly string[] {
  if (lifecycle.state === 'paused') return lifecycle.paused.machine.layers;
  return lifecycle.state === 'running' ? lifecycle.vm.machine.layers : [];
}

/** Disk files in the folder that the disk does not have: of merges, and of resumes and forks that did not come to their end. */
export async function removeOtherLayers(folder: string, layers: readonly string[]): Promise<void> {
  for (const name of await readdir(folder))
    if ((isLayerName(name) || isRawDiskFile(name)) && !layers.includes(name))
      await rm(join(folder, name), { force: true });
}
