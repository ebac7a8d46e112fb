import { bootByApi } from '../api/boot-by-api.ts';
import type { VmSpec } from '../driver.ts';
import { bootVm } from './cloud-hypervisor-calls.ts';
import type { CloudHypervisorVm } from './cloud-hypervisor-vm.ts';
import { type CloudHypervisorHost, launchCloudHypervisor, openApi } from './launch-cloud-hypervisor.ts';
import { diskJailPath, JAIL_PATHS } from './run-files.ts';

/** One boot, as `bootByApi` says. */
export function bootOnce(
  host: CloudHypervisorHost,
  spec: VmSpec,
  limitMs: number,
  signal?: AbortSignal,
): Promise<CloudHypervisorVm | undefined> {
  return bootByApi(
    {
      spec,
      limitMs,
      places: { kernel: JAIL_PATHS.kernel, initrd: JAIL_PATHS.initrd, disk: diskJailPath },
      launch: (launch, undo) => launchCloudHypervisor(host, launch, undo),
      start: async (vm, machine) => {
        await openApi(vm, host.deadlines, signal);
        await bootVm(vm.api, machine, signal);
      },
    },
    signal,
  );
}
