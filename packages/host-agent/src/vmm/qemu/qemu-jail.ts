import { existsSync } from 'node:fs';
import { chmod, chown, mkdir, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { VmDisk, VmMachine } from '../driver.ts';
import { type Jail, sameMount } from '../jail/jail.ts';
import type { QemuAccelerator } from './accelerator.ts';
import { qemuRunFiles } from './run-files.ts';

/** Firmware, which QEMU looks for in both. */
const FIRMWARE = ['/usr/share/qemu', '/usr/share/seabios'];
const TUN_DEVICE = '/dev/net/tun';
const KVM_DEVICE = '/dev/kvm';

export interface QemuJailParts {
  readonly machine: VmMachine;
  readonly accelerator: QemuAccelerator;
  /** Absolute paths: the program, and what is loaded before it. */
  readonly programs: readonly string[];
  /** Further files that are read at the start: kernel, initial RAM disk. */
  readonly moreFiles: readonly string[];
}

/**
 * What a QEMU sees: its program and libraries, firmware, the machine's folder, and the few files that lie elsewhere. In the
 * folder it may write to the disk's top layer and the console; everything else there belongs to root. The whole folder is
 * there, since a running VM gets new layers.
 */
export async function qemuJail({ machine, accelerator, programs, moreFiles }: QemuJailParts): Promise<Jail> {
  const { disks, memoryPath, consolePath, network, userId } = machine;
  const folder = machineFolder(machine);
  const elsewhere = [memoryPath, ...disks.flatMap(diskFiles), ...moreFiles].filter((path) => dirname(path) !== folder);
  return {
    userId,
    groupIds: accelerator.kind === 'kvm' ? [(await stat(KVM_DEVICE)).gid] : [],
    mounts: [
      ...[...FIRMWARE.filter((path) => existsSync(path)), ...programs].map((path) => sameMount(path)),
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
export async function handOverFiles(machine: VmMachine, moreFiles: readonly string[]): Promise<void> {
  const { disks, memoryPath, consolePath, runDir, userId, network } = machine;
  const { controlDir } = qemuRunFiles(runDir);
  await mkdir(controlDir, { mode: 0o700 });
  const written = disks.filter((disk) => !disk.readOnly).map((disk) => disk.path);
  const read = [memoryPath, ...disks.flatMap(diskFiles).filter((path) => !written.includes(path))];
  await Promise.all([
    chown(controlDir, userId, userId),
    ...[...written, consolePath].map((path) => giveFile(path, userId)),
    ...[...read, ...moreFiles].map(keepFile),
    letThrough(machineFolder(machine)),
    ...(network.netnsName === undefined ? [] : [openTunDevice()]),
  ]);
}

/** The user alone can read and write it. */
export async function giveFile(path: string, userId: number): Promise<void> {
  await chown(path, userId, userId);
  await chmod(path, 0o600);
}

/** Nobody can write to it any more, root excepted. */
export async function keepFile(path: string): Promise<void> {
  const { uid, gid, mode } = await stat(path);
  if (uid !== 0 || gid !== 0) await chown(path, 0, 0);
  if ((mode & 0o777) !== 0o444) await chmod(path, 0o444);
}

function diskFiles({ path, below = [] }: VmDisk): string[] {
  return [path, ...below];
}

function machineFolder(machine: VmMachine): string {
  return dirname(machine.disks[0]?.path ?? machine.memoryPath);
}

/**
 * Everybody may open the device: what one does with it needs a privilege, or a TAP that belongs to one. Where udev runs it is so
 * from the start. Source: Linux, Documentation/networking/tuntap.rst; udev's 50-udev-default.rules.
 */
async function openTunDevice(): Promise<void> {
  const { mode } = await stat(TUN_DEVICE);
  if ((mode & 0o666) !== 0o666) await chmod(TUN_DEVICE, 0o666);
}

/** The folder's own parent is closed to users of the host. */
async function letThrough(folder: string): Promise<void> {
  const { mode } = await stat(folder);
  if ((mode & 0o011) !== 0o011) await chmod(folder, (mode & 0o777) | 0o011);
}
