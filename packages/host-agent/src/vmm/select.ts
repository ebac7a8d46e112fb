import { NestboxError } from '@nestbox/contract';
import type { VmDriver } from './driver.ts';
import { examineFirecracker } from './firecracker/examine.ts';
import { createFirecrackerDriver, type UsableKvm } from './firecracker/firecracker-driver.ts';
import { probe } from './qemu/probe.ts';
import { createQemuDriver, type QemuDriverOptions } from './qemu/qemu-driver.ts';

/** What every driver is made from; each takes from it what it needs. */
export interface DriverOptions extends Omit<QemuDriverOptions, 'whyChosen'> {
  /** A name in PATH, or a path. Default: NESTBOX_FIRECRACKER_BIN, else firecracker. */
  readonly firecrackerBinary?: string;
}

/** `--vmm` values of drivers that exist. `auto` picks the best one that sandboxes can be made on here. */
const DRIVERS: Readonly<Record<string, (options: DriverOptions) => VmDriver>> = {
  auto: (options) => createQemuDriver({ ...options, whyChosen: () => explainAuto(options) }),
  qemu: (options) => createQemuDriver(options),
  firecracker: (options) => {
    const program = firecrackerBinary(options);
    return createFirecrackerDriver({
      ...options,
      askKvm: () => askKvm(options),
      ...(program === undefined ? {} : { program }),
    });
  },
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

/** Sandboxes are made on layers of qcow2. Throws not_supported for a driver that does not read them. */
export function requireSandboxDisks({ name, features }: Pick<VmDriver, 'name' | 'features'>): void {
  if (features.diskFormats.includes('qcow2')) return;
  throw new NestboxError(
    'not_supported',
    `Sandboxes cannot be made on ${name} yet: it reads no qcow2 disks. Use --vmm auto.`,
  );
}

/** Why `auto` is QEMU: a sentence. Until sandboxes can be made on Firecracker it is so in any case. */
async function explainAuto(options: DriverOptions): Promise<string> {
  const { works, reason } = await examineFirecracker(firecrackerBinary(options), () => askKvm(options));
  return works
    ? `QEMU was chosen: ${reason} But sandboxes cannot be made on Firecracker yet.`
    : `QEMU was chosen, not Firecracker: ${reason}`;
}

function firecrackerBinary(options: DriverOptions): string | undefined {
  return options.firecrackerBinary ?? process.env.NESTBOX_FIRECRACKER_BIN;
}

/** A guest is tried on it with QEMU. Throws not_set_up without one. */
async function askKvm({ accelerator, cacheDir, qemuBinary }: DriverOptions): Promise<UsableKvm> {
  if (accelerator === 'tcg') return { works: false, reason: 'software emulation was asked for.' };
  return (await probe({ cacheDir, qemuBinary, askKvm: true })).kvm;
}
