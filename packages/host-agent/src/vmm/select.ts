import { NestboxError } from '@nestbox/contract';
import type { VmDriver } from './driver.ts';
import { createQemuDriver, type QemuDriverOptions } from './qemu/qemu-driver.ts';

/** What every driver is made from; each takes from it what it needs. */
export type DriverOptions = QemuDriverOptions;

/** `--vmm` values of drivers that exist. `auto` picks the best one that runs here. */
const DRIVERS: Readonly<Record<string, (options: DriverOptions) => VmDriver>> = {
  auto: createQemuDriver,
  qemu: createQemuDriver,
};

/** The driver of that name. Throws not_supported for a name that no driver has. */
export function selectDriver(name: string, options: DriverOptions): VmDriver {
  const create = Object.hasOwn(DRIVERS, name) ? DRIVERS[name] : undefined;
  if (create === undefined)
    throw new NestboxError(
      'not_supported',
      `There is no VM driver "${name}". This version has: ${Object.keys(DRIVERS).join(', ')}.`,
    );
  return create(options);
}
