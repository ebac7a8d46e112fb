import { setTimeout as sleep } from 'node:timers/promises';
import { ZodError } from 'zod';
import { explainApiFailure } from '../api/api-failure.ts';
import { VmmApi, VmmUnavailableError } from '../api/vmm-api.ts';
import type { VmHandle, VmStatus } from '../driver.ts';
import { endProcess } from '../end-process.ts';
import type { ProcessVm } from '../process/process-vmm.ts';
import { type ConsoleStart, VmProcess, type VmProcessParts } from '../process/vm-process.ts';
import { readVmState, setVmRunning } from './cloud-hypervisor-calls.ts';
import { EventWatch } from './event-watch.ts';
import { cloudHypervisorRunFiles } from './run-files.ts';

const GONE_POLL_MS = 200;
const DYING_MS = 500;

/** What the driver holds of one VM. A guest that restarts ends it. */
export class CloudHypervisorVm implements ProcessVm {
  readonly #process: VmProcess;
  readonly #events: EventWatch;
  readonly api: VmmApi;

  constructor(parts: Omit<VmProcessParts, 'logPath'>, longestCallMs: number) {
    const { log, apiSocket, events } = cloudHypervisorRunFiles(parts.handle.runDir);
    this.#process = new VmProcess({ ...parts, logPath: log });
    this.api = new VmmApi(apiSocket, longestCallMs);
    this.#events = new EventWatch(events, () => endProcess(this.handle.process, { graceMs: 0 }).catch(() => undefined));
    if (!this.isAlive) this.#events.close();
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

  async queryStatus(signal?: AbortSignal): Promise<VmStatus> {
    const state = await readVmState(this.api, signal).catch((error: unknown) => {
      if (!(error instanceof ZodError)) throw error;
      throw new VmmUnavailableError('GET /api/v1/vm.info: the answer is not as described.', { cause: error });
    });
    switch (state) {
      case 'Running':
        return { state: 'running' };
      case 'Paused':
        return { state: 'paused' };
      default:
        return { state: 'stalled', reason: `Cloud Hypervisor does not run the guest (${state}).` };
    }
  }

  async setRunning(running: boolean, signal?: AbortSignal): Promise<void> {
    await setVmRunning(this.api, running, signal);
  }

  isGoneSoon(): Promise<boolean> {
    return this.#process.isGoneWithin(DYING_MS);
  }

  async waitUntilGone(signal: AbortSignal): Promise<string> {
    await this.#process.untilGone(signal, () => sleep(GONE_POLL_MS, undefined, { ref: false, signal }));
    return this.explainEnd();
  }

  async explainEnd(): Promise<string> {
    return this.#process.explainEnd(await this.#events.look());
  }

  explainFailure(error: unknown, console?: ConsoleStart): Promise<unknown> {
    return explainApiFailure('Cloud Hypervisor', this, error, console);
  }

  async close(): Promise<void> {
    this.#events.close();
  }
}
