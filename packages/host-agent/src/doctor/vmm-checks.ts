import { NestboxError } from '@nestbox/contract';
import { cgroupSupport } from '../vmm/cgroup/cgroup.ts';
import type { VmmDescription } from '../vmm/driver.ts';
import type { HostCheck } from './host-check.ts';

/** Which VM manager runs here and how fast. `describe` is the driver's own probe. */
export async function checkVmm(describe: () => Promise<VmmDescription>): Promise<HostCheck> {
  const id = 'vmm';
  const name = 'Virtual machines';
  const why =
    'With KVM a sandbox runs at the speed of this machine; without, QEMU emulates a processor, many times slower.';
  try {
    const { vmm, version, accelerator, reason } = await describe();
    const found = `${vmm} ${version}, ${accelerator === 'none' ? 'nothing that runs guests' : accelerator}: ${reason}`;
    if (accelerator === 'kvm') return { id, name, state: 'ok', found, why, mend: undefined };
    return {
      id,
      name,
      state: accelerator === 'tcg' ? 'warning' : 'failed',
      found,
      why,
      mend: 'Switch virtualization on in the firmware, or on a virtual machine have nested virtualization allowed, and load the module kvm_intel or kvm_amd.',
    };
  } catch (error) {
    const found = error instanceof Error ? error.message : String(error);
    const mend =
      error instanceof NestboxError
        ? 'Run: nestbox setup, which brings QEMU; another VM manager you install yourself.'
        : 'See whether qemu-system-x86_64 --version works.';
    return { id, name, state: 'failed', found, why, mend };
  }
}

/** Whether the memory and the processor time of VMs can be bounded. */
export async function checkCgroups(): Promise<HostCheck> {
  const support = await cgroupSupport();
  const fine = support.version !== undefined;
  return {
    id: 'cgroups',
    name: 'Limits (cgroups)',
    state: fine ? 'ok' : 'warning',
    found: support.reason,
    why: 'A control group around each virtual machine keeps it from using more memory and processor time than its template says.',
    mend: fine ? undefined : 'Run as root on a system with cgroup v2, or v1 with the controllers memory, cpu and pids.',
  };
}
