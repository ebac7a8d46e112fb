import { access, constants, open, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { NestboxError } from '@nestbox/contract';
import { CommandError, runCommand } from '@nestbox/kit';
import { mapDiskFull, requireFreeSpace } from './disk-space.ts';
import { errnoOf } from './errno.ts';

export interface OverlayOptions {
  /** Absolute; must not exist yet, its folder must. */
  readonly path: string;
  /** Absolute path of the raw disk below; nobody may write to it as long as the overlay lives. */
  readonly backingPath: string;
  /** Refuse when less than this is free where the overlay goes. Default 512 MiB. */
  readonly minimumFreeBytes?: number;
}

export const DEFAULT_MINIMUM_FREE_BYTES = 512 * 2 ** 20;

/**
 * Makes a qcow2 disk of the same size on top of a raw one; it takes 200 KiB until the guest writes. On failure nothing
 * is left. Throws NestboxError host_disk_full, not_set_up (no qemu-img), conflict (the overlay is there already),
 * template_not_found (the disk below is not).
 *
 * Reference counts are written at once, not lazily: a VM that is killed leaves an image that needs no repair.
 * qemu-img takes about 10 ms, too little to write the format ourselves.
 */
export async function createOverlay(options: OverlayOptions, signal?: AbortSignal): Promise<void> {
  const { path, backingPath } = options;
  await requireFreeSpace(dirname(path), options.minimumFreeBytes ?? DEFAULT_MINIMUM_FREE_BYTES);
  await requireBacking(backingPath);
  await reserve(path);
  try {
    const args = ['create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', backingPath, path];
    await runCommand('qemu-img', args, signal === undefined ? {} : { signal });
  } catch (error) {
    await rm(path, { force: true });
    throw explain(error, path, signal);
  }
}

async function requireBacking(path: string): Promise<void> {
  try {
    await access(path, constants.R_OK);
  } catch (cause) {
    throw new NestboxError('template_not_found', `The template's disk ${path} cannot be read.`, { cause });
  }
}

/** qemu-img would overwrite a disk that is there, even one in use. */
async function reserve(path: string): Promise<void> {
  try {
    await (await open(path, 'wx', 0o600)).close();
  } catch (error) {
    if (errnoOf(error) === 'EEXIST')
      throw new NestboxError('conflict', `There is a disk at ${path} already.`, { cause: error });
    throw mapDiskFull(error);
  }
}

function explain(error: unknown, path: string, signal: AbortSignal | undefined): NestboxError {
  const mapped = mapDiskFull(error);
  if (mapped instanceof NestboxError) return mapped;
  if (signal?.aborted)
    return new NestboxError('deadline_exceeded', 'Nobody waits for this disk any more.', { cause: signal.reason });
  if (error instanceof CommandError && errnoOf(error.cause) === 'ENOENT')
    return new NestboxError('not_set_up', 'The command qemu-img is missing. Install it (Debian: qemu-utils).', {
      cause: error,
    });
  return new NestboxError('internal', `The disk ${path} could not be made.`, { cause: error });
}
