import { createLogger } from '@nestbox/kit';
import type { BootWatchdog } from './boot-watchdog.ts';
import type { VmDriver } from './driver.ts';
import { createFakeDriver } from './fake/fake-driver.ts';
import { createQemuDriver } from './qemu/qemu-driver.ts';

/** A driver under test as plain data, so that another process can make the same one. */
export interface ConformanceDriver {
  readonly kind: 'fake' | 'qemu';
  readonly runRoot: string;
  readonly instance: string;
  readonly cacheDir: string;
  readonly bootWatchdog?: BootWatchdog;
}

/** Makes it, each time anew, as a host agent does when it starts. */
export function createConformanceDriver({ kind, ...options }: ConformanceDriver): VmDriver {
  const logger = createLogger({ level: 'silent' });
  switch (kind) {
    case 'fake':
      return createFakeDriver({ ...options, logger });
    case 'qemu':
      // TCG: these tests are about the driver, and it is there on every machine.
      return createQemuDriver({ ...options, logger, accelerator: 'tcg' });
  }
}
