import { open, rm } from 'node:fs/promises';
import { NestboxError } from '@nestbox/contract';
import { CommandError } from '@nestbox/kit';
import { mapDiskFull } from '../storage/disk-space.ts';
import { runTool } from './run-tool.ts';

export interface Ext4Options {
  /** File to make; must not exist. It is sparse: only what holds content takes room on the host. */
  readonly path: string;
  /** Folder that becomes the root of the file system, with its owners, modes, links and attributes. Undefined: empty. */
  readonly tree?: string;
  readonly sizeBytes: number;
  readonly label: string;
  /** Identity and seed of directory hashes; given for an image that must come out the same every time. */
  readonly uuid?: string;
  /** False for an image that is never written to. */
  readonly journal: boolean;
  /** Number of files that fit; mke2fs derives it from the size when it is undefined. */
  readonly inodeCount?: number;
  readonly env?: NodeJS.ProcessEnv;
  readonly signal?: AbortSignal;
}

/**
 * Features are named rather than taken from the host's mke2fs.conf, so that an image from a newer mke2fs still mounts
 * in the guest's kernel and an older debugfs can still read it.
 */
const FEATURES =
  'none,dir_index,ext_attr,extent,64bit,filetype,flex_bg,huge_file,large_file,metadata_csum,sparse_super,resize_inode,dir_nlink,extra_isize';

/** Blocks of 4 KiB: 16 MiB is plenty for one user's writes, and each sandbox's overlay grows by the journal's size. */
const JOURNAL_MIB = 16;

/**
 * Makes an ext4 file system in a file, filled from a folder, without mounting anything and without root's help beyond
 * reading the folder. Nothing is left on failure. Throws host_disk_full, or internal with mke2fs's words.
 */
export async function makeExt4(options: Ext4Options): Promise<void> {
  const { path, sizeBytes } = options;
  await using undo = new AsyncDisposableStack();
  const file = await open(path, 'wx', 0o644);
  undo.defer(() => rm(path, { force: true }));
  try {
    await file.truncate(sizeBytes);
  } finally {
    await file.close();
  }
  try {
    await runTool('mke2fs', mke2fsArguments(options), {
      ...(options.env && { env: options.env }),
      ...(options.signal && { signal: options.signal }),
    });
  } catch (error) {
    throw toImageError(path, error);
  }
  undo.move();
}

function mke2fsArguments({ path, tree, sizeBytes, label, uuid, journal, inodeCount }: Ext4Options): string[] {
  // The file is new and sparse, so its blocks read as zeros already. Told so, mke2fs writes no inode tables, and the
  // guest's kernel starts no thread that would zero them into the overlay of every sandbox.
  const extended = [
    'assume_storage_prezeroed=1',
    'root_owner=0:0',
    ...(uuid === undefined ? [] : [`hash_seed=${uuid}`]),
  ];
  return [
    ...['-q', '-F', '-t', 'ext4', '-b', '4096', '-I', '256', '-m', '1', '-L', label],
    ...['-O', journal ? `${FEATURES},has_journal` : FEATURES],
    ...(journal ? ['-J', `size=${JOURNAL_MIB}`] : []),
    ...['-E', extended.join(',')],
    ...(uuid === undefined ? [] : ['-U', uuid]),
    ...(inodeCount === undefined ? [] : ['-N', String(inodeCount)]),
    ...(tree === undefined ? [] : ['-d', tree]),
    path,
    `${Math.floor(sizeBytes / 1024)}k`,
  ];
}

function toImageError(path: string, error: unknown): unknown {
  const mapped = mapDiskFull(error);
  if (!(mapped instanceof CommandError)) return mapped;
  return new NestboxError('internal', `The disk image ${path} could not be made: ${mapped.message}`, { cause: error });
}
