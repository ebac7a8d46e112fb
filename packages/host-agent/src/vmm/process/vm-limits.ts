import type { CgroupLimits } from '../cgroup/cgroup.ts';
import type { VmMachine } from '../driver.ts';

/** What a VMM takes besides its guest. */
export interface VmmNeeds {
  readonly overheadMib: number;
  /** Besides one for each vCPU. */
  readonly extraThreads: number;
}

/** What a VM may have of the host. The VMM's own threads share the vCPUs' time: what the template says is all that the VM gets. */
export function vmLimits({ vcpuCount, memoryMib }: VmMachine, { overheadMib, extraThreads }: VmmNeeds): CgroupLimits {
  return {
    memoryBytes: (memoryMib + overheadMib) * 2 ** 20,
    cpuCount: vcpuCount,
    pidCount: vcpuCount + extraThreads,
  };
}
