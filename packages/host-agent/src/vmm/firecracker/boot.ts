import { bootByApi } from '../api/boot-by-api.ts';
import type { VmSpec } from '../driver.ts';
import { startMicroVm } from './firecracker-calls.ts';
import type { FirecrackerVm } from './firecracker-vm.ts';
import { type FirecrackerHost, launchFirecracker, openApi } from './launch-firecracker.ts';
import { diskJailPath, JAIL_PATHS } from './run-files.ts';

/** One boot, as `bootByApi` says. */
export function bootOnce(
  host: FirecrackerHost,
  spec: VmSpec,
  limitMs: number,
  signal?: AbortSignal,
): Promise<FirecrackerVm | undefined> {
  return bootByApi(
    {
      spec,
      limitMs,
      places: { kernel: JAIL_PATHS.kernel, initrd: JAIL_PATHS.initrd, disk: diskJailPath },
      launch: (launch, undo) => launchFirecracker(host, launch, undo),
      start: async (vm, machine) => {
        await openApi(vm, host.deadlines, signal);
        await startMicroVm(vm.api, { ...machine, metadata: { sandbox_id: spec.vmId } }, signal);
      },
    },
    signal,
  );
}
