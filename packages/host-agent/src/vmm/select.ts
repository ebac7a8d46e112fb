import { NestboxError } from '@nestbox/contract';
import type { VmDriver, VmmName } from './driver.ts';
import { examineFirecracker } from './firecracker/examine.ts';
import { createFirecrackerDriver, type UsableKvm } from './firecracker/firecracker-driver.ts';
import { probe } from './qemu/probe.ts';
import { createQemuDriver, type QemuDriverOptions } from './qemu/qemu-driver.ts';

/** What every driver is made from; each takes from it what it needs. */
export interface DriverOptions extends QemuDriverOptions {
  /** A name in PATH, or a path. Default: NESTBOX_FIRECRACKER_BIN, else firecracker. */
  readonly firecrackerBinary?: string;
  /** Whether KVM runs guests here. Default: one is tried with QEMU, and the answer remembered. */
  readonly askKvm?: () => Promise<UsableKvm>;
}

/** Whether a VM manager could run VMs here. `reason` is a sentence for users. */
interface Examination {
  readonly works: boolean;
  readonly reason: string;
}

interface DriverEntry {
  readonly name: VmmName;
  readonly create: (options: DriverOptions) => VmDriver;
  /** Never throws. Undefined for the last one, which is taken when no other works: it says by itself what it lacks. */
  readonly examine: ((options: DriverOptions) => Promise<Examination>) | undefined;
}

/** The drivers that there are, in the order in which `auto` would have them: a name here is a value of `--vmm`. */
const DRIVERS: readonly DriverEntry[] = [
  {
    name: 'firecracker',
    create: makeFirecracker,
    examine: (options) => examineFirecracker(firecrackerBinary(options), () => askKvm(options)),
  },
  { name: 'qemu', create: createQemuDriver, examine: undefined },
];

/**
 * The driver of that name. `auto`: that of the VMs that run here already, else the first that works here; for this KVM is probed when
 * a VM manager that needs it is installed. Its `describe` says why. Throws not_supported for a name that no driver has.
 */
export async function selectDriver(
  name: string,
  options: DriverOptions,
  inUse: ReadonlySet<VmmName> = new Set(),
): Promise<VmDriver> {
  if (name === 'auto') return selectBest(options, inUse);
  const entry = DRIVERS.find((driver) => driver.name === name);
  if (entry === undefined)
    throw new NestboxError(
      'not_supported',
      `There is no VM driver "${name}". This version has: ${['auto', ...DRIVERS.map((driver) => driver.name)].join(', ')}.`,
    );
  return entry.create(options);
}

async function selectBest(options: DriverOptions, inUse: ReadonlySet<VmmName>): Promise<VmDriver> {
  const running = DRIVERS.find(({ name }) => inUse.has(name));
  if (running !== undefined)
    return withReason(running.create(options), `${running.name} was chosen: sandboxes run on it already.`);
  const refusals: string[] = [];
  for (const { name, create, examine } of DRIVERS) {
    const { works, reason } = (await examine?.(options)) ?? { works: true, reason: '' };
    if (works) {
      const chosen = reason === '' ? `${name} was chosen.` : `${name} was chosen: ${reason}`;
      return withReason(create(options), [chosen, ...refusals].join(' '));
    }
    refusals.push(`Not ${name}: ${reason}`);
  }
  throw new NestboxError('internal', 'The list of VM drivers has no last one.');
}

/** Says in its description why it is there. */
function withReason(driver: VmDriver, why: string): VmDriver {
  const describe = driver.describe.bind(driver);
  return Object.assign(driver, {
    async describe(signal?: AbortSignal) {
      const description = await describe(signal);
      return { ...description, reason: `${description.reason} ${why}` };
    },
  });
}

function makeFirecracker(options: DriverOptions): VmDriver {
  const program = firecrackerBinary(options);
  return createFirecrackerDriver({
    ...options,
    askKvm: () => askKvm(options),
    ...(program === undefined ? {} : { program }),
  });
}

function firecrackerBinary(options: DriverOptions): string | undefined {
  return options.firecrackerBinary ?? process.env.NESTBOX_FIRECRACKER_BIN;
}

/** Throws not_set_up when there is no QEMU to try it with. */
async function askKvm(options: DriverOptions): Promise<UsableKvm> {
  const { accelerator, cacheDir, qemuBinary } = options;
  if (options.askKvm !== undefined) return options.askKvm();
  if (accelerator === 'tcg') return { works: false, reason: 'software emulation was asked for.' };
  return (await probe({ cacheDir, qemuBinary, askKvm: true })).kvm;
}
