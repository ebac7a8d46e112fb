import { setTimeout as sleep } from 'node:timers/promises';
import { NestboxError } from '@nestbox/contract';
import { isProcessAlive } from '@nestbox/kit';
import { ZodError } from 'zod';
import { VmmApi, VmmFaultError, VmmUnavailableError } from '../api/vmm-api.ts';
import { describeConsole } from '../boot-watchdog.ts';
import type { VmCgroup } from '../cgroup/cgroup.ts';
import type { VmHandle, VmStatus } from '../driver.ts';
import { waitUntilGone } from '../end-process.ts';
import { explainExit } from '../exit-reason.ts';
import { lastLines, readFileTail } from '../file-tail.ts';
import type { ProcessExit } from '../launch.ts';
import { readState, setRunning } from './firecracker-calls.ts';
import { firecrackerRunFiles, JAIL_PATHS } from './run-files.ts';

export interface VmDeadlines {
  /** For the API socket to appear. */
  readonly socketMs: number;
  /** Cuts the deadline of every call. */
  readonly callMs: number;
}

export const DEFAULT_DEADLINES: VmDeadlines = { socketMs: 5000, callMs: Number.POSITIVE_INFINITY };
const LOGS_DEADLINE_MS = 5000;

const GONE_POLL_MS = 200;
/** Between the closing of its socket and its end lie a few milliseconds. */
const DYING_MS = 500;
const EXPLAIN_DEADLINE_MS = 1000;
const LAST_WORDS_BYTES = 4096;

/** What the driver holds of one VM. */
export class FirecrackerVm {
  readonly handle: VmHandle;
  readonly #cgroup: VmCgroup | undefined;
  /** Of VMs that this process started. */
  readonly #exited: Promise<ProcessExit> | undefined;
  readonly api: VmmApi;
  #exit: ProcessExit | undefined;
  #outOfMemory = false;
  #lastWords = '';

  constructor(
    handle: VmHandle,
    options: {
      readonly cgroup: VmCgroup | undefined;
      readonly exited: Promise<ProcessExit> | undefined;
      readonly deadlines: VmDeadlines;
    },
  ) {
    this.handle = handle;
    this.#cgroup = options.cgroup;
    this.api = new VmmApi(firecrackerRunFiles(handle.runDir).apiSocket, options.deadlines.callMs);
    this.#exited = options.exited?.then((exit) => {
      this.#exit = exit;
      return exit;
    });
  }

  /** Started by this process, so its driver knows it even when nobody has written its handle down yet. */
  get isOwn(): boolean {
    return this.#exited !== undefined;
  }

  get isAlive(): boolean {
    return isProcessAlive(this.handle.process);
  }

  /** Before anything else: its logger and its metrics go into files of the run folder. */
  async collectLogs(signal?: AbortSignal): Promise<void> {
    const put = (path: string, body: unknown) =>
      this.api.call({ method: 'PUT', path, body, deadlineMs: LOGS_DEADLINE_MS }, signal);
    await put('/logger', { log_path: JAIL_PATHS.log, level: 'Info', show_level: true });
    await put('/metrics', { metrics_path: JAIL_PATHS.metrics });
  }

  async queryStatus(signal?: AbortSignal): Promise<VmStatus> {
    const state = await readState(this.api, signal).catch((error: unknown) => {
      if (!(error instanceof ZodError)) throw error;
      throw new VmmUnavailableError('GET /: the answer is not as described.', { cause: error });
    });
    switch (state) {
      case 'Running':
        return { state: 'running' };
      case 'Paused':
        return { state: 'paused' };
      case 'Not started':
        return { state: 'stalled', reason: 'Firecracker has not started the guest.' };
    }
  }

  async setRunning(running: boolean, signal?: AbortSignal): Promise<void> {
    if ((await this.queryStatus(signal)).state === (running ? 'running' : 'paused')) return;
    await setRunning(this.api, running, signal);
  }

  /** Resolves with the reason when the VM is gone. Rejects when the signal aborts. */
  async waitUntilGone(signal: AbortSignal): Promise<string> {
    while (this.isAlive) {
      signal.throwIfAborted();
      await sleep(GONE_POLL_MS, undefined, { ref: false, signal });
    }
    // Its parent hears of the end a moment later.
    if (this.#exited !== undefined) await Promise.race([this.#exited, sleep(DYING_MS, undefined, { ref: false })]);
    return this.explainEnd();
  }

  /** Why it is gone, as far as is known. */
  async explainEnd(): Promise<string> {
    // The cgroup and the log go with destroy; what they said is remembered.
    this.#outOfMemory ||= (await this.#cgroup?.wasOutOfMemory().catch(() => false)) ?? false;
    const log = await readFileTail(firecrackerRunFiles(this.handle.runDir).log, LAST_WORDS_BYTES).catch(() => '');
    this.#lastWords = lastLines(log, 3) || this.#lastWords;
    return explainExit({
      exit: this.#exit,
      shutdownCause: undefined,
      outOfMemory: this.#outOfMemory,
      lastWords: this.#lastWords,
    });
  }

  /** What a failed call means. The signal's reason is for the caller. */
  async explainFailure(error: unknown, console?: { readonly path: string; readonly start: number }): Promise<unknown> {
    if (error instanceof VmmFaultError)
      return new NestboxError(
        /No space left on device/.test(error.fault) ? 'host_disk_full' : 'internal',
        `Firecracker: ${error.message}`,
        { cause: error },
      );
    if (!(error instanceof VmmUnavailableError)) return error;
    if (await waitUntilGone(this.handle.process, DYING_MS)) {
      const reason = await this.waitUntilGone(AbortSignal.timeout(EXPLAIN_DEADLINE_MS));
      const tail = console === undefined ? '' : ` ${await describeConsole(console.path, console.start)}`;
      return new NestboxError('vm_died', `${reason}${tail}`, { cause: error });
    }
    const why = `The VM is there, but its manager does not answer: ${error.message}`;
    return new NestboxError('sandbox_unreachable', why, { cause: error });
  }
}
