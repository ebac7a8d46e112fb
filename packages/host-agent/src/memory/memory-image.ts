import { closeSync, fstatSync, ftruncateSync, openSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import { damagedFile } from '../damaged-file.ts';
import { nextData } from './file-extents.ts';
import {
  asDamage,
  CHUNK_BYTES,
  forEachStretch,
  openPageFile,
  type PageTable,
  readPageTable,
  writeFully,
  writePageMap,
} from './page-file.ts';
import { PAGE_BYTES, RunBuilder, subtract, unite } from './page-runs.ts';
import { readFully } from './process-memory.ts';

const ZEROS = Buffer.alloc(CHUNK_BYTES);

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
    throw damagedFile(pagesPath, 'it is of a guest with another size of memory than the image');
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

/**
 * Reads every page that the map names, and whatever else is no hole. Throws `snapshot_damaged` unless the former are those that were written and the
 * latter is zero. A blank image may have been copied with its holes as zeros.
 */
export async function verifyImage(image: MemoryImage, signal?: AbortSignal, pace?: () => Promise<void>): Promise<void> {
  const table = image.mapPath === undefined ? undefined : readPageTable(image.mapPath, { hasPages: false });
  let file: number;
  try {
    file = openSync(image.path, 'r');
  } catch (cause) {
    throw asDamage(image.path, cause);
  }
  try {
    const { size } = fstatSync(file);
    if (table !== undefined && size !== table.memoryBytes) throw damagedFile(image.path, `it has ${size} bytes`);
    if (table !== undefined) {
      const { crc } = await sealPages(file, table.runs, table.memoryBytes, signal, pace);
      if (crc !== table.crc) throw damagedFile(image.path, 'its checksum is wrong');
    }
    if (!(await isZeroBeside(file, size, table?.runs ?? new Uint32Array(), signal, pace)))
      throw damagedFile(
        image.path,
        table === undefined
          ? 'it is not blank, and memory.map is missing'
          : 'there is something where its map has nothing',
      );
  } catch (error) {
    throw asDamage(image.path, error);
  } finally {
    closeSync(file);
  }
}

/** Whether the pages outside of the runs are zero. Holes are not read. */
async function isZeroBeside(
  file: number,
  bytes: number,
  runs: PageTable['runs'],
  signal?: AbortSignal,
  pace?: () => Promise<void>,
): Promise<boolean> {
  const written = new RunBuilder();
  for (let at = 0; at < bytes; ) {
    const data = nextData(file, at, bytes);
    if (data === undefined) break;
    const first = Math.floor(data.start / PAGE_BYTES);
    written.add(first, Math.ceil(data.end / PAGE_BYTES) - first);
    at = data.end;
  }
  const buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES);
  let isZero = true;
  await forEachStretch(
    subtract(written.runs(), runs),
    (first, pages) => {
      const part = buffer.subarray(0, Math.min(pages * PAGE_BYTES, bytes - first * PAGE_BYTES));
      readFully(file, part, part.length, first * PAGE_BYTES);
      isZero &&= part.equals(ZEROS.subarray(0, part.length));
    },
    signal,
    pace,
  );
  return isZero;
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
