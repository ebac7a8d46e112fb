import { randomBytes } from 'node:crypto';
import { mkdtemp, open, rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { requireFreeSpace } from './disk-space.ts';
import { cloneFile, copySparse } from './raw-disks.ts';

/** How long copies of a disk take in a folder. */
export interface CopySpeeds {
  /** E.g. `ext4`; a number for one that is not known by name. */
  readonly fileSystem: string;
  /** Of the disk that was copied, holes apart. */
  readonly bytes: number;
  /** Undefined: the file system has none. */
  readonly reflinkMs: number | undefined;
  readonly sparseMs: number;
}

const SAMPLE_BYTES = 32 * 2 ** 20;
const CHUNK_BYTES = 2 ** 20;
const MINIMUM_FREE_BYTES = 256 * 2 ** 20;

/** From linux/magic.h and the file systems' own headers. */
const FILE_SYSTEMS: Readonly<Record<number, string>> = {
  61267: 'ext4',
  1481003842: 'XFS',
  2435016766: 'Btrfs',
  3393526350: 'bcachefs',
  801189825: 'ZFS',
  16914836: 'tmpfs',
  2035054128: 'overlayfs',
};

/**
 * Copies a disk by each way that there is, in a folder of its own that is gone afterwards. Throws host_disk_full when it could come to
 * little room, and what the system throws.
 */
export async function measureCopies(folder: string): Promise<CopySpeeds> {
  await requireFreeSpace(folder, MINIMUM_FREE_BYTES);
  const { type } = await statfs(folder);
  const place = await mkdtemp(join(folder, '.copies-'));
  try {
    const source = join(place, 'source');
    await writeSample(source);
    const reflink = await timed(() => cloneFile(source, join(place, 'reflink')));
    const sparse = await timed(() => copySparse(source, join(place, 'sparse')));
    return {
      fileSystem: FILE_SYSTEMS[type] ?? `file system 0x${type.toString(16)}`,
      bytes: SAMPLE_BYTES,
      reflinkMs: reflink.result ? reflink.ms : undefined,
      sparseMs: sparse.ms,
    };
  } finally {
    await rm(place, { recursive: true, force: true });
  }
}

/** As a guest's disk is: something at its beginning, and a hole after it. It stands on the disk, as that of a guest does before it is frozen. */
async function writeSample(path: string): Promise<void> {
  await using file = await open(path, 'wx', 0o600);
  const chunk = randomBytes(CHUNK_BYTES);
  for (let at = 0; at < SAMPLE_BYTES; at += CHUNK_BYTES) await file.write(chunk, 0, CHUNK_BYTES, at);
  await file.truncate(2 * SAMPLE_BYTES);
  await file.sync();
}

async function timed<T>(work: () => Promise<T>): Promise<{ readonly result: T; readonly ms: number }> {
  const start = performance.now();
  const result = await work();
  return { result, ms: performance.now() - start };
}
