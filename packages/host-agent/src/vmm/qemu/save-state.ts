import { createHash } from 'node:crypto';
import { closeSync, openSync, readFileSync, renameSync, rmSync, statfsSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { NestboxError } from '@nestbox/contract';
import { writePageFile } from '../../memory/page-file.ts';
import { ProcessMemory } from '../../memory/process-memory.ts';
import type { SavedState, VmState } from '../driver.ts';
import { giveFile, keepFile } from '../jail/hand-over.ts';
import type { QemuAccelerator } from './accelerator.ts';
import { TCG_PROCESSOR } from './command-line.ts';
import { rootFolder } from './disks.ts';
import type { QemuVm } from './qemu-vm.ts';
import { QmpCommandError } from './qmp-client.ts';

/** Takes milliseconds; a disk with much to do gets time. */
const SAVE_DEADLINE_MS = 60_000;
/** Beside the root disk, for some milliseconds. */
const DEVICES_DRAFT = 'devices.saving';
/** Count up when the machine in command-line.ts changes in a way that a saved state notices. */
const MACHINE_REVISION = 1;

/**
 * Writes the state of a VM whose vCPUs stand still. Its name notwithstanding `xen-save-devices-state` has nothing to do with
 * Xen: it writes what a migration would, without memory. `live: false` leaves the disks in the VM's hands, so that it can
 * go on. QEMU gets an empty file in the one folder of ours that it sees, which goes to its place when it is complete: no path of
 * QEMU's making is ever followed. Throws host_disk_full and what QMP throws.
 */
export async function saveState(
  vm: QemuVm,
  memoryPath: string,
  { devicesPath, pagesPath }: VmState,
  signal?: AbortSignal,
): Promise<SavedState> {
  const draft = join(await rootFolder(vm, signal), DEVICES_DRAFT);
  rmSync(draft, { force: true });
  try {
    closeSync(openSync(draft, 'wx'));
    giveFile(draft, vm.userId);
    const ordered = vm.execute('xen-save-devices-state', { filename: draft, live: false }, SAVE_DEADLINE_MS, signal);
    // QEMU writes while we copy, and the order goes out first: copying leaves nobody else a turn.
    await nextTurn();
    const copied = pagesPath === undefined ? 0 : copyPages(vm, memoryPath, pagesPath, signal);
    // What failed is told when neither goes on any more.
    const [devices, pages] = await Promise.allSettled([ordered, copied]);
    if (devices.status === 'rejected') throw explainFailure(devices.reason, draft);
    if (pages.status === 'rejected') throw pages.reason;
    keepFile(draft);
    if (statSync(draft).size === 0)
      throw new NestboxError('internal', `QEMU says that it has written ${draft}, but nothing is in it.`);
    renameSync(draft, devicesPath);
    return { changedPages: pages.value };
  } catch (error) {
    rmSync(draft, { force: true });
    throw error;
  }
}

async function copyPages(vm: QemuVm, memoryPath: string, pagesPath: string, signal?: AbortSignal): Promise<number> {
  using memory = ProcessMemory.open(vm.handle.process.pid, memoryPath, 'r');
  return (await writePageFile(pagesPath, memory, signal)).pageCount;
}

/** QEMU says no more than that writing failed. */
function explainFailure(error: unknown, draft: string): unknown {
  return error instanceof QmpCommandError && isFull(dirname(draft)) ? diskFull(draft, error) : error;
}

/** So little is free that nothing fits any more. */
const FULL_BYTES = 2 ** 20;

function isFull(folder: string): boolean {
  const { bavail, bsize } = statfsSync(folder);
  return bavail * bsize < FULL_BYTES;
}

function diskFull(path: string, cause: unknown): NestboxError {
  return new NestboxError('host_disk_full', `The host's disk is full: ${path} cannot be written.`, { cause });
}

/**
 * With TCG the processor is QEMU's own and the same everywhere. With KVM it is the host's: what the guest saw of it must
 * be there again.
 */
export function describeSnapshotMachine(qemuVersion: string, accelerator: QemuAccelerator): string {
  const common = `qemu ${qemuVersion}, machine ${MACHINE_REVISION}`;
  if (accelerator.kind === 'tcg') return `${common}, q35, tcg, cpu ${TCG_PROCESSOR}`;
  return `${common}, microvm, kvm, cpu ${accelerator.cpuModel} of ${hostProcessor(readFileSync('/proc/cpuinfo', 'utf8'))}`;
}

/** Model and features of the first processor, the long list of features as a hash. */
export function hostProcessor(cpuinfo: string): string {
  const field = (name: string) => new RegExp(`^${name}\\s*: (.*)$`, 'm').exec(cpuinfo)?.[1]?.trim() ?? '';
  const flags = field('flags').split(' ').sort().join(' ');
  const words = [field('vendor_id'), field('cpu family'), field('model'), field('stepping'), flags].join('|');
  return `${field('model name')} (${createHash('sha256').update(words).digest('hex').slice(0, 12)})`;
}
