import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from './errno.ts';

export interface FolderUsage {
  /** On the disk, in files that no other folder has. */
  readonly ownBytes: number;
  /** On the disk, in files that other folders have too (hard links). */
  readonly sharedBytes: number;
  /** The guest's memory: image and pages. */
  readonly memoryBytes: number;
  /** The guest's disk: layers and the raw disk below. */
  readonly diskBytes: number;
}

export interface DiskItem extends FolderUsage {
  readonly kind: 'sandbox' | 'template' | 'snapshot' | 'image' | 'warm';
  readonly id: string;
  readonly name: string;
  /** What is known to be damaged of it, in plain words. */
  readonly damage: string | undefined;
}

export interface DiskUsage {
  readonly items: readonly DiskItem[];
  readonly freeBytes: number;
  readonly totalBytes: number;
  /** All that rests here is being read. */
  readonly isVerifying: boolean;
  /** When that came to its end last, in milliseconds since the epoch. */
  readonly verifiedAtMs: number | undefined;
}

const MEMORY_FILES = /^(memory|pages)$/;
const DISK_FILES = /\.(qcow2|raw|ext4)$/;
/** st_blocks counts in these, whatever the file system's own blocks are. Source: stat(2). */
const BLOCK_BYTES = 512;

/** What a folder and those in it take. Files that go meanwhile are left out. */
export async function folderUsage(folder: string): Promise<FolderUsage> {
  // A file that this folder has twice (a template's disk, and its snapshot's) counts once, and is no more others' for that.
  const files = new Map<
    bigint,
    { readonly name: string; readonly bytes: number; readonly links: bigint; here: bigint }
  >();
  for (const { parentPath, name } of await entriesBelow(folder)) {
    const stats = await lstat(join(parentPath, name), { bigint: true }).catch(ignoreGone);
    if (stats === undefined || !stats.isFile()) continue;
    const known = files.get(stats.ino);
    if (known !== undefined) known.here += 1n;
    else files.set(stats.ino, { name, bytes: Number(stats.blocks) * BLOCK_BYTES, links: stats.nlink, here: 1n });
  }
  const usage = { ownBytes: 0, sharedBytes: 0, memoryBytes: 0, diskBytes: 0 };
  for (const { name, bytes, links, here } of files.values()) {
    if (links > here) usage.sharedBytes += bytes;
    else usage.ownBytes += bytes;
    if (MEMORY_FILES.test(name)) usage.memoryBytes += bytes;
    else if (DISK_FILES.test(name)) usage.diskBytes += bytes;
  }
  return usage;
}

async function entriesBelow(folder: string) {
  return (await readdir(folder, { recursive: true, withFileTypes: true }).catch(ignoreGone)) ?? [];
}

function ignoreGone(error: unknown): undefined {
  if (errnoOf(error) !== 'ENOENT') throw error;
  return undefined;
}
