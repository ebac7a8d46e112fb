import { NestboxError } from '@nestbox/contract';
import { MEMORY_RESTORES, type MemoryRestore } from './cloud-hypervisor/cloud-hypervisor-calls.ts';
import { createCloudHypervisorDriver } from './cloud-hypervisor/cloud-hypervisor-driver.ts';
import { CLOUD_HYPERVISOR } from './cloud-hypervisor/program.ts';
import type { VmDriver, VmmName } from './driver.ts';
import { createFirecrackerDriver } from './firecracker/firecracker-driver.ts';
import { FIRECRACKER } from './firecracker/program.ts';
import { examineVmm, type KvmHostOptions, type UsableKvm, type VmmAnswer } from './process/kvm-host.ts';
import { probe } from './qemu/probe.ts';
import { createQemuDriver, type QemuDriverOptions } from './qemu/qemu-driver.ts';

/** What every driver is made from; each takes from it what it needs. */
export interface DriverOptions extends QemuDriverOptions {
  /** A name in PATH, or a path. Default: NESTBOX_FIRECRACKER_BIN, else firecracker. */
  readonly firecrackerBinary?: string;
  /** Firecracker's jailer: a name in PATH, or a path. Default: NESTBOX_JAILER_BIN, else one beside Firecracker or in PATH. */
  readonly jailerBinary?: string;
  /** A name in PATH, or a path. Default: NESTBOX_CLOUD_HYPERVISOR_BIN, else cloud-hypervisor. */
  readonly cloudHypervisorBinary?: string;
  /** How Cloud Hypervisor reads memory at a restore. Default: NESTBOX_CLOUD_HYPERVISOR_RESTORE, else `eager`. */
  readonly cloudHypervisorRestore?: MemoryRestore;
  /** Whether KVM runs guests here. Default: one is tried with QEMU, and the answer remembered. */
  readonly askKvm?: () => Promise<UsableKvm>;
}

interface DriverEntry {
  readonly name: VmmName;
  readonly create: (options: DriverOptions) => VmDriver;
  /** Never throws. Undefined for the last one, which is taken when no other works: it says by itself what it lacks. */
  readonly examine: ((options: DriverOptions) => Promise<VmmAnswer>) | undefined;
}

/** The drivers that there are, in the order in which `auto` would have them: a name here is a value of `--vmm`. */
const DRIVERS: readonly DriverEntry[] = [
  {
    name: 'firecracker',
    create: makeFirecracker,
    examine: (options) => examineVmm(FIRECRACKER, firecracker(options)),
  },
  {
    name: 'cloud-hypervisor',
    create: makeCloudHypervisor,
    examine: (options) => examineVmm(CLOUD_HYPERVISOR, cloudHypervisor(options)),
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
  return withReason(entry.create(options), `${name} was asked for.`);
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
  const jailer = options.jailerBinary ?? process.env.NESTBOX_JAILER_BIN;
  return createFirecrackerDriver({ ...options, ...firecracker(options), ...(jailer === undefined ? {} : { jailer }) });
}

/** Throws invalid_request for a way to restore that there is not. */
function makeCloudHypervisor(options: DriverOptions): VmDriver {
  const wanted = options.cloudHypervisorRestore ?? process.env.NESTBOX_CLOUD_HYPERVISOR_RESTORE ?? 'eager';
  const memoryRestore = MEMORY_RESTORES.find((way) => way === wanted);
  if (memoryRestore === undefined)
    throw new NestboxError(
      'invalid_request',
      `NESTBOX_CLOUD_HYPERVISOR_RESTORE is ${MEMORY_RESTORES.join(' or ')}, not ${wanted}.`,
    );
  return createCloudHypervisorDriver({ ...options, ...cloudHypervisor(options), memoryRestore });
}

function firecracker(options: DriverOptions): KvmHostOptions {
  return kvmProgram(options, options.firecrackerBinary ?? process.env[FIRECRACKER.variable]);
}

function cloudHypervisor(options: DriverOptions): KvmHostOptions {
  return kvmProgram(options, options.cloudHypervisorBinary ?? process.env[CLOUD_HYPERVISOR.variable]);
}

function kvmProgram(options: DriverOptions, program: string | undefined): KvmHostOptions {
  return { askKvm: () => askKvm(options), ...(program === undefined ? {} : { program }) };
}

/** Throws not_set_up when there is no QEMU to try it with. */
async function askKvm(options: DriverOptions): Promise<UsableKvm> {
  const { accelerator, cacheDir, qemuBinary } = options;
  if (options.askKvm !== undefined) return options.askKvm();
  if (accelerator === 'tcg') return { works: false, reason: 'software emulation was asked for.' };
  return (await probe({ cacheDir, qemuBinary, askKvm: true })).kvm;
}
