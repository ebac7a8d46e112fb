import { chmod, chown, mkdir, mkdtemp, readFile, realpath, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { createLogger } from '@nestbox/kit';
import { createBlankImage } from '../../memory/memory-image.ts';
import type { BootWatchdog } from '../boot-watchdog.ts';
import type { VmSpec } from '../driver.ts';
import { sameMount } from '../jail/jail.ts';
import type { KvmHostOptions } from '../process/kvm-host.ts';
import type { ProcessDriverOptions } from '../process/process-driver.ts';
import { findApiDescription } from './stand-in/api-description.ts';
import { type JournalEntry, journalEntry, type StandInPlan } from './stand-in/plan.ts';

export const USER_ID = 1_879_048_192;
const MEMORY_MIB = 128;
export const STAND_IN = resolve(import.meta.dirname, 'stand-in', 'stand-in.ts');
const REPOSITORY = resolve(import.meta.dirname, '../../../../..');

/** Why a driver cannot be held against its VMM's description of its API; undefined when it can. */
export function whyNoDescription(vmm: StandInPlan['vmm']): string | undefined {
  return findApiDescription(vmm) === undefined
    ? `The description of ${vmm}'s API is not there: NESTBOX_VMM_API_DIR names the folder with ${vmm}.yaml`
    : undefined;
}

/** A stand-in by its plan, as data for another process too. */
export interface StandInDriver {
  readonly runRoot: string;
  readonly instance: string;
  readonly planPath: string;
  readonly bootWatchdog?: BootWatchdog;
}

/** Options for a driver with the stand-in in place of the program; everything else is real: process, jail, cgroup, socket, files. */
export function standInOptions(
  vmm: StandInPlan['vmm'],
  { runRoot, instance, planPath, bootWatchdog }: StandInDriver,
): ProcessDriverOptions & KvmHostOptions & { readonly instance: string } {
  const description = findApiDescription(vmm);
  return {
    runRoot,
    instance,
    logger: createLogger({ level: 'silent' }),
    askKvm: async () => ({ works: true, reason: 'the stand-in needs none' }),
    kvmDevice: '/dev/zero',
    program: {
      command: [process.execPath, STAND_IN, planPath],
      mounts: [
        sameMount(process.execPath),
        sameMount(REPOSITORY),
        // For the interfaces of its network namespace.
        sameMount('/proc'),
        sameMount(dirname(planPath), true),
        ...(description === undefined ? [] : [sameMount(dirname(description))]),
      ],
    },
    ...(bootWatchdog === undefined ? {} : { bootWatchdog }),
  };
}

export type StandInBench = Awaited<ReturnType<typeof createStandInBench>>;

/** What a stand-in says of itself where a plan does not say. */
const VERSIONS = { firecracker: '1.16.0', 'cloud-hypervisor': '52.0' } as const;

/** Folders, machines and plans for tests with the stand-in. */
export async function createStandInBench(vmm: StandInPlan['vmm']) {
  const folder = await realpath(await mkdtemp(join(tmpdir(), 'nestbox-vmm-')));
  const runRoot = join(folder, 'run');
  const instance = Math.floor(Math.random() * 0x1_00_00_00)
    .toString(16)
    .padStart(6, '0');
  const kernelPath = join(folder, 'vmlinux');
  const initrdPath = join(folder, 'initrd');
  await chmod(folder, 0o711);
  await mkdir(runRoot);
  await writeFile(kernelPath, '\x7fELF and so on', 'latin1');
  await writeFile(initrdPath, '');
  let count = 0;

  /** Its journal is in the folder of the plan, where the stand-in may write. */
  async function writePlan(plan: Partial<StandInPlan> = {}, into?: string): Promise<string> {
    const own = into ?? join(folder, `plan${++count}`);
    await mkdir(own, { recursive: true });
    await chown(own, USER_ID, USER_ID);
    const descriptionPath = findApiDescription(vmm);
    const whole: StandInPlan = {
      vmm,
      version: VERSIONS[vmm],
      journalPath: join(own, 'journal'),
      ...(descriptionPath === undefined ? {} : { descriptionPath }),
      ...plan,
    };
    await writeFile(join(own, 'plan.json'), JSON.stringify(whole));
    return join(own, 'plan.json');
  }

  return {
    folder,
    runRoot,
    instance,
    writePlan,
    /** Every request that a stand-in of this plan was sent, GETs apart. */
    async journal(planPath: string): Promise<JournalEntry[]> {
      const text = await readFile(join(dirname(planPath), 'journal'), 'utf8').catch(() => '');
      return text
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => journalEntry.parse(JSON.parse(line)))
        .filter(({ method }) => method !== 'GET');
    },
    async createSpec(overrides: Partial<VmSpec> = {}): Promise<VmSpec> {
      const vmId = `vm${++count}`;
      const runDir = join(runRoot, vmId);
      const home = join(folder, `home-${vmId}`);
      await mkdir(runDir);
      await mkdir(home);
      const memoryPath = join(home, 'memory');
      await createBlankImage(memoryPath, MEMORY_MIB * 2 ** 20);
      const diskPath = join(home, 'root.raw');
      await writeFile(diskPath, '');
      await truncate(diskPath, 2 ** 20);
      return {
        vmId,
        vcpuCount: 1,
        memoryMib: MEMORY_MIB,
        userId: USER_ID,
        memoryPath,
        kernelPath,
        initrdPath,
        kernelArgs: ['nestbox-test=1'],
        disks: [{ path: diskPath, format: 'raw', readOnly: false }],
        network: { netnsName: undefined, tapName: 'tap0', guestMac: '02:fc:00:00:00:05' },
        runDir,
        consolePath: join(home, 'console.log'),
        ...overrides,
      };
    },
    remove: () => rm(folder, { recursive: true, force: true }),
  };
}
