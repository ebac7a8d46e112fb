import { closeSync, ftruncateSync, openSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import {
  CHUNK_BYTES,
  damaged,
  forEachStretch,
  openPageFile,
  type PageTable,
  readPageTable,
  writeFully,
  writePageMap,
} from './page-file.ts';
import { PAGE_BYTES, RunBuilder, unite } from './page-runs.ts';
import { readFully } from './process-memory.ts';

/**
 * A memory image: a sparse file of the size of the guest's memory, which VMMs map privately, so that all VMs of one image
 * share its pages. Its map says which pages it has; all others are zero. A blank image has none, and no map.
 */
export interface MemoryImage {
  readonly path: string;
  /** Undefined: blank. */
  readonly mapPath: string | undefined;
}

/** Memory of a machine that has never run: for cold boots, whose changes are then told from an image as well. */
export async function createBlankImage(path: string, memoryBytes: number): Promise<void> {
  await using file = await open(path, 'wx', 0o600);
  await file.truncate(memoryBytes);
}

/**
 * Writes a new image (and its map, when it has pages) that is another one with the pages of a page file on top. The caller
 * syncs them. Throws `snapshot_damaged` when a source is not what was written.
 */
export async function mergeIntoImage(
  base: MemoryImage,
  pagesPath: string,
  target: { readonly path: string; readonly mapPath: string },
  signal?: AbortSignal,
): Promise<PageTable> {
  const pages = openPageFile(pagesPath);
  const { memoryBytes } = pages.table;
  const baseTable = base.mapPath === undefined ? undefined : readPageTable(base.mapPath, { hasPages: false });
  if (baseTable !== undefined && baseTable.memoryBytes !== memoryBytes)
    throw damaged(pagesPath, 'it is of a guest with another size of memory than the image');
  const out = openSync(target.path, 'wx+', 0o600);
  try {
    ftruncateSync(out, memoryBytes);
    if (baseTable !== undefined) await copyImage(base.path, baseTable, out, signal);
    await pages.forEachPart((firstPage, part) => writeFully(out, part, firstPage * PAGE_BYTES), signal);
    const all = baseTable === undefined ? pages.table.runs : unite(baseTable.runs, pages.table.runs);
    const table = await sealPages(out, all, memoryBytes, signal);
    writePageMap(target.mapPath, table);
    return table;
  } finally {
    closeSync(out);
  }
}

/** Reads every page that the map names. Throws `snapshot_damaged` unless they are those that were written. */
export async function verifyImage(image: MemoryImage, signal?: AbortSignal, pace?: () => Promise<void>): Promise<void> {
  if (image.mapPath === undefined) return;
  const table = readPageTable(image.mapPath, { hasPages: false });
  let file: number;
  try {
    file = openSync(image.path, 'r');
  } catch (cause) {
    throw damaged(image.path, 'it cannot be opened', cause);
  }
  try {
    const { crc } = await sealPages(file, table.runs, table.memoryBytes, signal, pace);
    if (crc !== table.crc) throw damaged(image.path, 'its checksum is wrong');
  } catch (error) {
    // A shorter file ends too soon.
    throw error instanceof Error && error.message.startsWith('read ') ? damaged(image.path, error.message) : error;
  } finally {
    closeSync(file);
  }
}

async function copyImage(path: string, table: PageTable, out: number, signal?: AbortSignal): Promise<void> {
  const source = openSync(path, 'r');
  try {
    const buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES);
    await forEachStretch(
      table.runs,
      (first, pages) => {
        const part = buffer.subarray(0, pages * PAGE_BYTES);
        readFully(source, part, part.length, first * PAGE_BYTES);
        writeFully(out, part, first * PAGE_BYTES);
      },
      signal,
    );
  } finally {
    closeSync(source);
  }
}

async function sealPages(
  file: number,
  runs: PageTable['runs'],
  memoryBytes: number,
  signal?: AbortSignal,
  pace?: () => Promise<void>,
): Promise<PageTable> {
  const buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES);
  const whole = new RunBuilder();
  let crc = 0;
  let pageCount = 0;
  await forEachStretch(
    runs,
    (first, pages) => {
      const part = buffer.subarray(0, pages * PAGE_BYTES);
      readFully(file, part, part.length, first * PAGE_BYTES);
      crc = crc32(part, crc);
      whole.add(first, pages);
      pageCount += pages;
    },
    signal,
    pace,
  );
  return { memoryBytes, runs: whole.runs(), pageCount, crc };
}
