import { createLogger } from '@nestbox/kit';
import type { BootWatchdog } from './boot-watchdog.ts';
import type { VmDriver } from './driver.ts';
import { createFakeDriver } from './fake/fake-driver.ts';
import { createQemuDriver } from './qemu/qemu-driver.ts';
import { createStandInCloudHypervisor } from './testing/cloud-hypervisor-bench.ts';
import { createJailedStandIn, createStandInFirecracker } from './testing/firecracker-bench.ts';
import { createRealDriver } from './testing/real-vmm.ts';

/** A driver under test as plain data, so that another process can make the same one. */
export interface ConformanceDriver {
  readonly kind: 'fake' | 'qemu' | 'firecracker' | 'jailed-firecracker' | 'cloud-hypervisor';
  readonly runRoot: string;
  readonly instance: string;
  readonly cacheDir: string;
  readonly bootWatchdog?: BootWatchdog;
  /** Of the stand-in for Firecracker or Cloud Hypervisor. */
  readonly planPath?: string;
  /** The VMM's own program, in place of the stand-in. */
  readonly program?: string;
}

/** Makes it, each time anew, as a host agent does when it starts. */
export function createConformanceDriver({ kind, planPath = '', program, ...options }: ConformanceDriver): VmDriver {
  const logger = createLogger({ level: 'silent' });
  if (program !== undefined && (kind === 'firecracker' || kind === 'cloud-hypervisor'))
    return createRealDriver(kind, { ...options, program });
  switch (kind) {
    case 'fake':
      return createFakeDriver({ ...options, logger });
    case 'firecracker':
      return createStandInFirecracker({ ...options, planPath });
    case 'jailed-firecracker':
      return createJailedStandIn({ ...options, planPath });
    case 'cloud-hypervisor':
      return createStandInCloudHypervisor({ ...options, planPath });
    case 'qemu':
      // TCG: these tests are about the driver, and it is there on every machine.
      return createQemuDriver({ ...options, logger, accelerator: 'tcg' });
  }
}
