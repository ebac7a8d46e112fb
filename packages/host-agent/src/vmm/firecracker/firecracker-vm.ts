import { ZodError } from 'zod';
import { ApiVm } from '../api/api-vm.ts';
import { VmmUnavailableError } from '../api/vmm-api.ts';
import type { VmStatus } from '../driver.ts';
import type { VmProcessParts } from '../process/vm-process.ts';
import { readState, setRunning } from './firecracker-calls.ts';
import { firecrackerRunFiles, JAIL_PATHS } from './run-files.ts';

const LOGS_DEADLINE_MS = 5000;

/** What the driver holds of one VM. */
export class FirecrackerVm extends ApiVm {
  constructor(parts: Omit<VmProcessParts, 'logPath'>, longestCallMs: number) {
    const { log, apiSocket } = firecrackerRunFiles(parts.handle.runDir);
    super({ vmm: 'Firecracker', process: { ...parts, logPath: log }, apiSocket, longestCallMs });
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
}
