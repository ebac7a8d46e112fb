import { ZodError } from 'zod';
import { ApiVm } from '../api/api-vm.ts';
import { VmmUnavailableError } from '../api/vmm-api.ts';
import type { VmStatus } from '../driver.ts';
import { endProcess } from '../end-process.ts';
import type { VmProcessParts } from '../process/vm-process.ts';
import { readVmState, setVmRunning } from './cloud-hypervisor-calls.ts';
import { EventWatch } from './event-watch.ts';
import { cloudHypervisorRunFiles } from './run-files.ts';

/** What the driver holds of one VM. A guest that restarts ends it. */
export class CloudHypervisorVm extends ApiVm {
  readonly #events: EventWatch;

  constructor(parts: Omit<VmProcessParts, 'logPath'>, longestCallMs: number) {
    const { log, apiSocket, events } = cloudHypervisorRunFiles(parts.handle.runDir);
    super({ vmm: 'Cloud Hypervisor', process: { ...parts, logPath: log }, apiSocket, longestCallMs });
    this.#events = new EventWatch(events, () => endProcess(this.handle.process, { graceMs: 0 }).catch(() => undefined));
    if (!this.isAlive) this.#events.close();
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

  protected override shutdownCause(): Promise<string | undefined> {
    return this.#events.look();
  }

  override async close(): Promise<void> {
    this.#events.close();
  }
}
