import { setTimeout as sleep } from 'node:timers/promises';
import type { VmHandle, VmStatus } from '../driver.ts';
import type { ProcessVm } from '../process/process-vmm.ts';
import { type ConsoleStart, VmProcess, type VmProcessParts } from '../process/vm-process.ts';
import { explainApiFailure } from './api-failure.ts';
import { VmmApi } from './vmm-api.ts';

const GONE_POLL_MS = 200;
const DYING_MS = 500;

export interface ApiVmParts {
  /** The VM manager's name, as it stands in errors. */
  readonly vmm: string;
  readonly process: VmProcessParts;
  readonly apiSocket: string;
  readonly longestCallMs: number;
}

/** What a driver holds of one VM whose manager is told what to do by HTTP over a unix socket. */
export abstract class ApiVm implements ProcessVm {
  readonly api: VmmApi;
  readonly #vmm: string;
  readonly #process: VmProcess;

  constructor({ vmm, process, apiSocket, longestCallMs }: ApiVmParts) {
    this.#vmm = vmm;
    this.#process = new VmProcess(process);
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

  abstract queryStatus(signal?: AbortSignal): Promise<VmStatus>;

  abstract setRunning(running: boolean, signal?: AbortSignal): Promise<void>;

  isGoneSoon(): Promise<boolean> {
    return this.#process.isGoneWithin(DYING_MS);
  }

  async waitUntilGone(signal: AbortSignal): Promise<string> {
    await this.#process.untilGone(signal, () => sleep(GONE_POLL_MS, undefined, { ref: false, signal }));
    return this.explainEnd();
  }

  async explainEnd(): Promise<string> {
    return this.#process.explainEnd(await this.shutdownCause());
  }

  /** What the VM manager said of its guest's end, if it says such things. */
  protected async shutdownCause(): Promise<string | undefined> {
    return undefined;
  }

  explainFailure(error: unknown, console?: ConsoleStart): Promise<unknown> {
    return explainApiFailure(this.#vmm, this, error, console);
  }

  /** Each call has a connection of its own, so there is none to close. */
  async close(): Promise<void> {}
}
