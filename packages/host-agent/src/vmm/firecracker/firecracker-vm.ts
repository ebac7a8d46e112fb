import { setTimeout as sleep } from 'node:timers/promises';
import { ZodError } from 'zod';
import { explainApiFailure } from '../api/api-failure.ts';
import { VmmApi, VmmUnavailableError } from '../api/vmm-api.ts';
import type { VmHandle, VmStatus } from '../driver.ts';
import type { ProcessVm } from '../process/process-vmm.ts';
import { type ConsoleStart, VmProcess, type VmProcessParts } from '../process/vm-process.ts';
import { readState, setRunning } from './firecracker-calls.ts';
import { firecrackerRunFiles, JAIL_PATHS } from './run-files.ts';

const LOGS_DEADLINE_MS = 5000;
const GONE_POLL_MS = 200;
const DYING_MS = 500;

/** What the driver holds of one VM. */
export class FirecrackerVm implements ProcessVm {
  readonly #process: VmProcess;
  readonly api: VmmApi;

  constructor(parts: Omit<VmProcessParts, 'logPath'>, longestCallMs: number) {
    const { log, apiSocket } = firecrackerRunFiles(parts.handle.runDir);
    this.#process = new VmProcess({ ...parts, logPath: log });
    this.api = new VmmApi(apiSocket, longestCallMs);
  }

  get handle(): VmHandle {
    return this.#process.handle;
  }

  get isOwn(): boolean {
    return this.#process.isOwn;
  }

  get isAlive(): boolean {
    return this.#process.isAlive;
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

  isGoneSoon(): Promise<boolean> {
    return this.#process.isGoneWithin(DYING_MS);
  }

  async waitUntilGone(signal: AbortSignal): Promise<string> {
    await this.#process.untilGone(signal, () => sleep(GONE_POLL_MS, undefined, { ref: false, signal }));
    return this.explainEnd();
  }

  explainEnd(): Promise<string> {
    return this.#process.explainEnd(undefined);
  }

  explainFailure(error: unknown, console?: ConsoleStart): Promise<unknown> {
    return explainApiFailure('Firecracker', this, error, console);
  }

  /** Each call has a connection of its own, so there is none to close. */
  async close(): Promise<void> {}
}
