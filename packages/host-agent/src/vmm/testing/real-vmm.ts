import { access, constants } from 'node:fs/promises';
import { createLogger } from '@nestbox/kit';
import { createCloudHypervisorDriver } from '../cloud-hypervisor/cloud-hypervisor-driver.ts';
import type { VmDriver } from '../driver.ts';
import { createFirecrackerDriver } from '../firecracker/firecracker-driver.ts';
import { probe } from '../qemu/probe.ts';

export interface RealVmm {
  readonly runRoot: string;
  readonly instance: string;
  readonly cacheDir: string;
  readonly program: string;
}

/** The driver with the VMM's own program. `pretendKvm`: KVM is not asked whether it works, so that the VMM says it. */
export function createRealDriver(
  kind: 'firecracker' | 'cloud-hypervisor',
  { cacheDir, ...options }: RealVmm,
  pretendKvm?: { readonly kvmDevice: string },
): VmDriver {
  const askKvm = async () =>
    pretendKvm === undefined
      ? (await probe({ cacheDir, qemuBinary: undefined, askKvm: true })).kvm
      : { works: true, reason: 'It was not asked.' };
  const all = { ...options, ...pretendKvm, logger: createLogger({ level: 'silent' }), askKvm };
  return kind === 'firecracker' ? createFirecrackerDriver(all) : createCloudHypervisorDriver(all);
}

/** `/dev/kvm`; where there is none, a device that every VMM refuses. */
export async function someKvmDevice(): Promise<string> {
  return access('/dev/kvm', constants.R_OK | constants.W_OK).then(
    () => '/dev/kvm',
    () => '/dev/zero',
  );
}
