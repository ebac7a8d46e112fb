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
}

export interface DiskUsage {
  readonly items: readonly DiskItem[];
  readonly freeBytes: number;
  readonly totalBytes: number;
}

const MEMORY_FILES = /^(memory|pages)$/;
const DISK_FILES = /\.(qcow2|ext4)$/;
/** st_blocks counts in these, whatever the file system's own blocks are. Source: stat(2). */
const BLOCK_BYTES = 512;

/** What a folder and those in it take. Files that go meanwhile are left out. */
export async function folderUsage(folder: string): Promise<FolderUsage> {
  const seen = new Set<bigint>();
  const usage = { ownBytes: 0, sharedBytes: 0, memoryBytes: 0, diskBytes: 0 };
  for (const entry of await entriesBelow(folder)) {
    const stats = await lstat(join(entry.parentPath, entry.name), { bigint: true }).catch(ignoreGone);
    if (stats === undefined || !stats.isFile()) continue;
    // A file that this folder has twice (a template's disk, and its snapshot's) counts once.
    if (seen.has(stats.ino)) continue;
    seen.add(stats.ino);
    const bytes = Number(stats.blocks) * BLOCK_BYTES;
    if (stats.nlink > 1n) usage.sharedBytes += bytes;
    else usage.ownBytes += bytes;
    if (MEMORY_FILES.test(entry.name)) usage.memoryBytes += bytes;
    else if (DISK_FILES.test(entry.name)) usage.diskBytes += bytes;
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
