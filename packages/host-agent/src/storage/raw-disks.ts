import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { copyFile, open, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { NestboxError } from '@nestbox/contract';
import { runCommand } from '@nestbox/kit';
import { DEFAULT_MINIMUM_FREE_BYTES } from './disk-layers.ts';
import { mapDiskFull, requireFreeSpace } from './disk-space.ts';
import { errnoOf } from './errno.ts';

/** For VM managers that read raw disks alone: what a layer is to others is a copy here, which shares its blocks where it can. */
export interface NewRawDisk {
  readonly folder: string;
  /** Default: a new one. */
  readonly name?: string;
  /** A raw disk, which nobody writes to meanwhile: a template's, or that of a guest that is frozen. */
  readonly sourcePath: string;
  readonly diskMib: number;
  /** Must stay free. Default 512 MiB. */
  readonly minimumFreeBytes?: number;
}

export interface RawDisk {
  readonly name: string;
  /** `shared`: a reflink, which takes no room until somebody writes. `sparse`: a copy of all that is not a hole. */
  readonly kind: 'shared' | 'sparse';
}

const RAW_DISK_NAME = /^disk-[0-9a-f]{8}\.raw$/;
const SECTOR_BYTES = 512;
/** No file system here knows reflinks, or not between these two. From ioctl_ficlonerange(2), and what Node makes of it. */
const NO_REFLINK = new Set(['EOPNOTSUPP', 'ENOTSUP', 'ENOTTY', 'ENOSYS', 'EINVAL', 'EXDEV']);

export function isRawDiskName(name: string): boolean {
  return RAW_DISK_NAME.test(name);
}

/** Also one that did not come to its end. */
export function isRawDiskFile(name: string): boolean {
  return isRawDiskName(name.replace(/\.new$/, ''));
}

export function newRawDiskName(): string {
  return `disk-${randomBytes(4).toString('hex')}.raw`;
}

/**
 * Makes a disk of its own of another one, of that size, and returns its name. It appears under it when it is whole; whoever needs
 * it to outlive a power failure syncs it. Throws NestboxError host_disk_full, and invalid_request for a size below the source's. After an error or an abort nothing is left.
 */
export async function createRawDisk(disk: NewRawDisk, signal?: AbortSignal): Promise<RawDisk> {
  const { folder, sourcePath, diskMib } = disk;
  const minimumFreeBytes = disk.minimumFreeBytes ?? DEFAULT_MINIMUM_FREE_BYTES;
  const source = await stat(sourcePath);
  if (source.size > diskMib * 2 ** 20)
    throw new NestboxError(
      'invalid_request',
      `A disk of ${diskMib} MiB cannot hold the ${source.size} bytes of its source.`,
    );
  await requireFreeSpace(folder, minimumFreeBytes);
  const name = disk.name ?? newRawDiskName();
  const draft = join(folder, `${name}.new`);
  try {
    const shared = await cloneFile(sourcePath, draft);
    if (!shared) {
      await requireFreeSpace(folder, minimumFreeBytes + source.blocks * SECTOR_BYTES);
      await copySparse(sourcePath, draft, signal);
    }
    signal?.throwIfAborted();
    {
      await using file = await open(draft, 'r+');
      await file.chmod(0o600);
      await file.truncate(diskMib * 2 ** 20);
    }
    await rename(draft, join(folder, name));
    return { name, kind: shared ? 'shared' : 'sparse' };
  } catch (error) {
    await rm(draft, { force: true });
    signal?.throwIfAborted();
    throw mapDiskFull(error);
  }
}

/** A reflink. False where the file system does not share blocks. */
export async function cloneFile(from: string, to: string): Promise<boolean> {
  try {
    await copyFile(from, to, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE_FORCE);
    return true;
  } catch (error) {
    if (!NO_REFLINK.has(errnoOf(error) ?? '')) throw error;
    await rm(to, { force: true });
    return false;
  }
}

/** Stretches of zeros become holes, so that the copy takes no more than what is in it. */
export async function copySparse(from: string, to: string, signal?: AbortSignal): Promise<void> {
  await runCommand(
    'cp',
    ['--reflink=never', '--sparse=always', '--', from, to],
    signal === undefined ? {} : { signal },
  );
}
