import { statfs } from 'node:fs/promises';
import { NestboxError } from '@nestbox/contract';
import { CommandError } from '@nestbox/kit';
import { errnoOf } from './errno.ts';

/** Bytes that an ordinary process may still write below this folder. */
export async function freeBytes(folder: string): Promise<number> {
  const { bavail, bsize } = await statfs(folder);
  return bavail * bsize;
}

/** Throws host_disk_full when less than `minimumFreeBytes` is left. */
export async function requireFreeSpace(folder: string, minimumFreeBytes: number): Promise<void> {
  const free = await freeBytes(folder);
  if (free < minimumFreeBytes)
    throw diskFullError(`${inMib(free)} MiB are free at ${folder}, ${inMib(minimumFreeBytes)} MiB are needed`);
}

/** Turns "no space" in all the forms in which it comes (errno, quota, the words of a command) into host_disk_full. */
export function mapDiskFull(error: unknown): unknown {
  return isDiskFull(error) ? diskFullError('a file could not be written', error) : error;
}

function isDiskFull(error: unknown): boolean {
  if (error instanceof CommandError) return /No space left on device|Disk quota exceeded/.test(error.stderr);
  return ['ENOSPC', 'EDQUOT'].includes(errnoOf(error) ?? '');
}

function diskFullError(what: string, cause?: unknown): NestboxError {
  return new NestboxError(
    'host_disk_full',
    `The disk of this host is full: ${what}. Delete sandboxes or free space, then try again.`,
    { cause },
  );
}

function inMib(bytes: number): number {
  return Math.floor(bytes / 2 ** 20);
}
