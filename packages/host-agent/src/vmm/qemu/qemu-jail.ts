import { chownSync, existsSync, mkdirSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { VmDisk, VmMachine } from '../driver.ts';
import { giveFile, keepFile, letThrough, openTunDevice, TUN_DEVICE } from '../jail/hand-over.ts';
import { type Jail, sameMount } from '../jail/jail.ts';
import type { QemuAccelerator } from './accelerator.ts';
import { qemuRunFiles } from './run-files.ts';

/** Firmware, which QEMU looks for in both. */
const FIRMWARE = ['/usr/share/qemu', '/usr/share/seabios'];
const KVM_DEVICE = '/dev/kvm';

/**
 * Where a QEMU finds the library that is loaded before it. A place of its own: LD_PRELOAD is a list that spaces and colons
 * separate (ld.so(8)), and the state folder's path may have such.
 */
export const JAILED_PRELOAD = '/preload/read-only-open.so';

export interface QemuJailParts {
  readonly machine: VmMachine;
  readonly accelerator: QemuAccelerator;
  /** Absolute path of QEMU. */
  readonly program: string;
  /** Of the library that is loaded before it, which it finds at JAILED_PRELOAD. */
  readonly preload: string;
  /** Further files that are read at the start: kernel, initial RAM disk. */
  readonly moreFiles: readonly string[];
}

/**
 * What a QEMU sees: its program and libraries, firmware, the machine's folder, and the few files that lie elsewhere. In the
 * folder it may write to the disk's top layer and the console; everything else there belongs to root. The whole folder is
 * there, since a running VM gets new layers.
 */
export async function qemuJail({ machine, accelerator, program, preload, moreFiles }: QemuJailParts): Promise<Jail> {
  const { disks, memoryPath, consolePath, network, userId } = machine;
  const folder = machineFolder(machine);
  const elsewhere = [memoryPath, ...disks.flatMap(diskFiles), ...moreFiles].filter((path) => dirname(path) !== folder);
  return {
    userId,
    groupIds: accelerator.kind === 'kvm' ? [(await stat(KVM_DEVICE)).gid] : [],
    mounts: [
      ...[...FIRMWARE.filter((path) => existsSync(path)), program].map((path) => sameMount(path)),
      { hostPath: preload, jailPath: JAILED_PRELOAD, writable: false },
      sameMount(folder, true),
      sameMount(qemuRunFiles(machine.runDir).controlDir, true),
      ...[...new Set(elsewhere)].map((path) => sameMount(path)),
      ...(dirname(consolePath) === folder ? [] : [sameMount(consolePath, true)]),
    ],
    devices: [
      ...(network.netnsName === undefined ? [] : [TUN_DEVICE]),
      ...(accelerator.kind === 'kvm' ? [KVM_DEVICE] : []),
    ],
  };
}

/**
 * Gives the VMM's user what it writes to, and takes from everybody what is only read. Files are shared with other sandboxes, whose
 * VMMs have other users: those belong to root and can be read by all who get to see them.
 */
export function handOverFiles(machine: VmMachine, moreFiles: readonly string[]): void {
  const { disks, memoryPath, consolePath, runDir, userId, network } = machine;
  const { controlDir } = qemuRunFiles(runDir);
  mkdirSync(controlDir, { mode: 0o700 });
  const written = disks.filter((disk) => !disk.readOnly).map((disk) => disk.path);
  const read = [memoryPath, ...disks.flatMap(diskFiles).filter((path) => !written.includes(path))];
  chownSync(controlDir, userId, userId);
  for (const path of [...written, consolePath]) giveFile(path, userId);
  for (const path of [...read, ...moreFiles]) keepFile(path);
  letThrough(machineFolder(machine));
  if (network.netnsName !== undefined) openTunDevice();
}

function diskFiles({ path, below = [] }: VmDisk): string[] {
  return [path, ...below];
}

function machineFolder(machine: VmMachine): string {
  return dirname(machine.disks[0]?.path ?? machine.memoryPath);
}
