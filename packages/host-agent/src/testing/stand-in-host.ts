import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { TestContext } from 'node:test';
import type { NestboxPaths } from '@nestbox/kit';
import type { VmDriver, VmMachine, VmSpec } from '../vmm/driver.ts';
import { createStandInCloudHypervisor } from '../vmm/testing/cloud-hypervisor-bench.ts';
import { createStandInFirecracker } from '../vmm/testing/firecracker-bench.ts';
import { findApiDescription } from '../vmm/testing/stand-in/api-description.ts';
import {
  type JournalEntry,
  journalEntry,
  type PlannedFailure,
  type StandInPlan,
} from '../vmm/testing/stand-in/plan.ts';
import type { LoopbackNetworks } from './loopback-networks.ts';
import {
  addressOf,
  makeTestHost,
  type TestHost,
  tinyAgentCommand,
  writeTestImages,
  writeTestTemplate,
} from './test-host.ts';

const TINY_AGENT = resolve(import.meta.dirname, 'tiny-agent.ts');
/** Its cgroup has room for the stand-in and the guest agent, which are two Node processes. */
const MEMORY_MIB = 256;

/** A state folder whose sandboxes run on a VM manager's stand-in, each with a guest agent inside that comes and goes with its VM. */
export interface StandInHost extends TestHost {
  /** What goes wrong from now on, in every VM. */
  goWrong(failures: readonly PlannedFailure[]): void;
  /** The VMMs' calls that were answered so far, GETs apart. */
  journal(): readonly JournalEntry[];
}

export async function makeStandInHost(t: TestContext, vmm: StandInPlan['vmm']): Promise<StandInHost> {
  const host = await makeTestHost(t, tinyAgentCommand, {
    makeDriver({ paths, networks, agent }) {
      return standInDriver(vmm, paths, networks, () => agent.mood);
    },
  });
  const { layout, paths } = host;
  const folder = standInFolder(vmm, paths.stateDir);
  for (const path of [paths.stateDir, join(paths.stateDir, '..')]) chmodSync(path, 0o711);
  await writeTestTemplate(layout, { memoryMib: MEMORY_MIB, vcpuCount: 1, diskMib: 64 });
  const [kernelPath, initrdPath] = [join(folder, 'vmlinux'), join(folder, 'initrd')] as const;
  writeFileSync(kernelPath, '\x7fELF and so on', 'latin1');
  writeFileSync(initrdPath, '');
  await writeTestImages(layout, { kernelPath, initrdPath });
  return {
    ...host,
    goWrong: (failures) => writePlan(vmm, folder, failures),
    journal: () =>
      readFileSync(join(folder, 'journal'), 'utf8')
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => journalEntry.parse(JSON.parse(line)))
        .filter(({ method }) => method !== 'GET'),
  };
}

/** The driver, also for a host agent in another process. `mood`: what the next VMs' agents do wrong. */
export function standInDriver(
  vmm: StandInPlan['vmm'],
  { stateDir, runDir, instance }: NestboxPaths,
  networks: LoopbackNetworks,
  mood: () => string,
): VmDriver {
  const folder = standInFolder(vmm, stateDir);
  const create = vmm === 'firecracker' ? createStandInFirecracker : createStandInCloudHypervisor;
  const driver = create({ runRoot: runDir, instance, planPath: join(folder, 'plan.json') });
  return withAgents(driver, folder, networks, mood);
}

/** Where plan, journal and addresses are; made when it is not there. Every VM has a user of its own, and all write the journal. */
function standInFolder(vmm: StandInPlan['vmm'], stateDir: string): string {
  const folder = join(stateDir, '..', 'stand-in');
  if (mkdirSync(folder, { recursive: true }) === undefined) return folder;
  chmodSync(folder, 0o755);
  writeFileSync(join(folder, 'journal'), '');
  chmodSync(join(folder, 'journal'), 0o666);
  writeFileSync(join(folder, 'mood'), '');
  writePlan(vmm, folder, []);
  return folder;
}

function writePlan(vmm: StandInPlan['vmm'], folder: string, failures: readonly PlannedFailure[]): void {
  const descriptionPath = findApiDescription(vmm);
  const plan: StandInPlan = {
    vmm,
    version: vmm === 'firecracker' ? '1.16.0' : '52.0',
    // The guest agent says so too.
    preloaded: true,
    journalPath: join(folder, 'journal'),
    failures: [...failures],
    guest: { command: [process.execPath, TINY_AGENT], addressDir: folder },
    ...(descriptionPath === undefined ? {} : { descriptionPath }),
  };
  writeFileSync(join(folder, 'plan.json'), JSON.stringify(plan));
}

/** Tells each VM's stand-in where its guest agent listens, which has the loopback network in place of a TAP. */
function withAgents(driver: VmDriver, folder: string, networks: LoopbackNetworks, mood: () => string): VmDriver {
  const onLoopback = <M extends VmMachine>(machine: M): M => {
    writeFileSync(join(folder, machine.vmId), `${addressOf(networks, machine)}:49983`);
    writeFileSync(join(folder, 'mood'), mood());
    return { ...machine, network: { ...machine.network, netnsName: undefined } };
  };
  const { start, restore } = driver;
  return Object.assign(driver, {
    start: (spec: VmSpec, signal?: AbortSignal) => start.call(driver, onLoopback(spec), signal),
    restore: (machine: VmMachine, state: Parameters<VmDriver['restore']>[1], signal?: AbortSignal) =>
      restore.call(driver, onLoopback(machine), state, signal),
  });
}
