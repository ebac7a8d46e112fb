import { link, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { NestboxError } from '@nestbox/contract';
import { allSettled } from '../all-settled.ts';
import { mapDiskFull } from './disk-space.ts';
import { errnoOf } from './errno.ts';

export const ROOTFS_NAME = 'rootfs.ext4';

/**
 * Everything that a VM needs lies in one folder: a sandbox's, a template's snapshot's, a fork's on its way. What several
 * have in common (layers and what is below them, memory image, agent disk) each has as a hard link of its own. So the file system counts
 * who needs a file; deleting a folder never takes anything from another, and a folder can be copied to another machine.
 */
export function machineFiles(folder: string) {
  return {
    /** The raw disk at the bottom of layers. */
    rootfs: join(folder, ROOTFS_NAME),
    /** A file of the root disk by its name: a layer, or a raw disk. */
    layer: (name: string) => join(folder, name),
    agentDisk: join(folder, 'agent.ext4'),
    /** The memory image that VMs of this folder are on, and which pages of it are not zero. */
    memory: join(folder, 'memory'),
    memoryMap: join(folder, 'memory.map'),
    /** A saved state: pages on top of the image, devices, and what says that they are complete. */
    pages: join(folder, 'pages'),
    devices: join(folder, 'devices'),
    manifest: join(folder, 'snapshot.json'),
  } as const;
}

/**
 * Links a machine's agent disk and memory image into another folder; its root disk has ways of its own. Throws not_set_up when a
 * file is missing or on another file system.
 */
export async function linkMachine(folder: string, target: string): Promise<void> {
  const from = machineFiles(folder);
  const to = machineFiles(target);
  await allSettled([
    linkFile(from.agentDisk, to.agentDisk),
    linkFile(from.memory, to.memory),
    linkFileIfThere(from.memoryMap, to.memoryMap),
  ]);
}

/** A hard link to the file itself, also when the name given is a symbolic one. */
export async function linkFile(from: string, to: string): Promise<void> {
  try {
    await link(await realpath(from), to);
  } catch (cause) {
    if (errnoOf(cause) === 'ENOENT')
      throw new NestboxError('not_set_up', `${from} is missing. Run: nestbox setup`, { cause });
    if (errnoOf(cause) === 'EXDEV')
      throw new NestboxError(
        'not_set_up',
        `${from} and ${to} are on different file systems; everything in the state folder must be on one.`,
        { cause },
      );
    throw mapDiskFull(cause);
  }
}

async function linkFileIfThere(from: string, to: string): Promise<void> {
  try {
    await link(await realpath(from), to);
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw mapDiskFull(error);
  }
}
