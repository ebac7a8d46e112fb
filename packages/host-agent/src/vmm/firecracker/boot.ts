import { awaitGuest } from '../api/await-guest.ts';
import type { VmSpec } from '../driver.ts';
import { startMicroVm } from './firecracker-calls.ts';
import type { FirecrackerVm } from './firecracker-vm.ts';
import { type FirecrackerHost, launchFirecracker, openApi } from './launch-firecracker.ts';
import { diskJailPath, JAIL_PATHS } from './run-files.ts';

export interface FirecrackerBoot extends FirecrackerHost {
  readonly spec: VmSpec;
  /** Time for the sign of life. */
  readonly limitMs: number;
}

/**
 * One boot. Undefined when the guest showed no sign of life in time. Then, and after any error, nothing is left of it.
 * Throws NestboxError (vm_died, host_disk_full, sandbox_unreachable, internal for a refusal), or the signal's reason.
 */
export async function bootOnce(boot: FirecrackerBoot, signal?: AbortSignal): Promise<FirecrackerVm | undefined> {
  const { spec, limitMs } = boot;
  const { consolePath } = spec;
  signal?.throwIfAborted();
  await using undo = new AsyncDisposableStack();
  const { vm, consoleStart, exited } = await launchFirecracker(
    boot,
    {
      machine: spec,
      consoleNote: '[nestbox: boot]',
      readFiles: [
        { hostPath: spec.kernelPath, jailPath: JAIL_PATHS.kernel },
        { hostPath: spec.initrdPath, jailPath: JAIL_PATHS.initrd },
      ],
    },
    undo,
  );
  try {
    await openApi(vm, boot.deadlines, signal);
    await startMicroVm(
      vm.api,
      {
        kernelPath: JAIL_PATHS.kernel,
        initrdPath: JAIL_PATHS.initrd,
        kernelArgs: spec.kernelArgs,
        vcpuCount: spec.vcpuCount,
        memoryMib: spec.memoryMib,
        disks: spec.disks.map(({ readOnly }, index) => ({ path: diskJailPath(index), readOnly })),
        network: spec.network.netnsName === undefined ? undefined : spec.network,
        metadata: { sandbox_id: spec.vmId },
      },
      signal,
    );
    if (!(await awaitGuest({ consolePath, consoleStart, exited, limitMs }, signal))) return undefined;
  } catch (error) {
    signal?.throwIfAborted();
    throw await vm.explainFailure(error, { path: consolePath, start: consoleStart });
  }
  undo.move();
  return vm;
}
