import { closeSync, fstatSync, openSync, writeSync } from 'node:fs';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { crc32 } from 'node:zlib';
import { damagedFile, unreadableFile } from '../damaged-file.ts';
import { countPages, PAGE_BYTES, type PageRuns } from './page-runs.ts';
import { type ProcessMemory, readFully } from './process-memory.ts';

/**
 * Pages of a guest's memory in a file. Little endian:
 *
 * | offset | bytes | what |
 * |---|---|---|
 * | 0 | 8 | magic |
 * | 8 | 4 | CRC-32 of everything from offset 16 to the end of the table |
 * | 12 | 4 | CRC-32 of the pages |
 * | 16 | 8 | size of the guest's memory in bytes |
 * | 24 | 4 | number of runs |
 * | 28 | 4 | number of pages |
 * | 32 | 8 a run | first page, number of pages |
 * | next multiple of 4096 | 4096 a page | the pages of all runs, one after another; missing in a map |
 */
const MAGIC = Buffer.from('NBPAGES1');
const HEADER_BYTES = 32;
const MAX_PAGES = 2 ** 31;

/** One copy at most; after so many bytes others get their turn. */
export const CHUNK_BYTES = 1024 * 1024;
const TURN_BYTES = 4 * CHUNK_BYTES;

/** Memory of a guest of which it is known which pages changed. */
export interface ChangedMemory {
  readonly pageCount: number;
  changedPages(): PageRuns;
  read(firstPage: number, into: Buffer): void;
}

export interface PageTable {
  readonly memoryBytes: number;
  readonly runs: PageRuns;
  readonly pageCount: number;
  /** Of the pages. */
  readonly crc: number;
}

/** Calls back for each stretch of pages that is copied at once. Lets others have their turn in between, and waits for `pace`. */
export async function forEachStretch(
  runs: PageRuns,
  visit: (firstPage: number, pages: number) => void,
  signal?: AbortSignal,
  pace?: () => Promise<void>,
): Promise<void> {
  const stretch = CHUNK_BYTES / PAGE_BYTES;
  let untilTurn = TURN_BYTES;
  for (let index = 0; index < runs.length; index += 2) {
    const first = runs[index] ?? 0;
    const count = runs[index + 1] ?? 0;
    for (let done = 0; done < count; done += stretch) {
      const pages = Math.min(stretch, count - done);
      visit(first + done, pages);
      untilTurn -= pages * PAGE_BYTES;
      if (untilTurn > 0) continue;
      untilTurn = TURN_BYTES;
      await nextTurn();
      await pace?.();
      signal?.throwIfAborted();
    }
  }
}

/** Copies the changed pages of a guest, which stands still, into a new file. The caller syncs it. */
export async function writePageFile(path: string, memory: ChangedMemory, signal?: AbortSignal): Promise<PageTable> {
  const runs = memory.changedPages();
  const file = openSync(path, 'wx', 0o600);
  try {
    const buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES);
    let offset = dataOffset(runs);
    let crc = 0;
    let filled = 0;
    const flush = () => {
      if (filled === 0) return;
      const part = buffer.subarray(0, filled);
      crc = crc32(part, crc);
      writeFully(file, part, offset);
      offset += filled;
      filled = 0;
    };
    // Runs are mostly short: they are gathered, so that the file is written in large pieces.
    await forEachStretch(
      runs,
      (first, pages) => {
        const bytes = pages * PAGE_BYTES;
        if (filled + bytes > CHUNK_BYTES) flush();
        memory.read(first, buffer.subarray(filled, filled + bytes));
        filled += bytes;
      },
      signal,
    );
    flush();
    const table = { memoryBytes: memory.pageCount * PAGE_BYTES, runs, pageCount: countPages(runs), crc };
    writeFully(file, encodeTable(table), 0);
    return table;
  } finally {
    closeSync(file);
  }
}

/** A map: a table without pages, beside a memory image that has them in their places. */
export function writePageMap(path: string, table: PageTable): void {
  const file = openSync(path, 'wx', 0o600);
  try {
    writeFully(file, encodeTable(table), 0);
  } finally {
    closeSync(file);
  }
}

/**
 * Puts the pages of a file into the memory of a guest that has not run yet. Throws `snapshot_damaged` when the file is not
 * what was written; the guest is of no use then.
 */
export async function applyPageFile(path: string, memory: ProcessMemory, signal?: AbortSignal): Promise<void> {
  const { table, forEachPart } = openPageFile(path);
  if (table.memoryBytes !== memory.pageCount * PAGE_BYTES)
    throw damagedFile(path, 'it is of a guest with another size of memory');
  await forEachPart((firstPage, part) => memory.write(firstPage, part), signal);
}

export interface PageFile {
  readonly table: PageTable;
  /** Throws `snapshot_damaged` at the end when the pages were not those that were written. Can be called once. */
  forEachPart(
    visit: (firstPage: number, part: Buffer) => void,
    signal?: AbortSignal,
    pace?: () => Promise<void>,
  ): Promise<void>;
}

/** Reads and checks the table. Throws `snapshot_damaged`. */
export function openPageFile(path: string): PageFile {
  const table = readPageTable(path, { hasPages: true });
  return {
    table,
    async forEachPart(visit, signal, pace) {
      const file = openSync(path, 'r');
      try {
        const buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES);
        let offset = dataOffset(table.runs);
        let crc = 0;
        let left = table.pageCount * PAGE_BYTES;
        let at = 0;
        let available = 0;
        // Read in large pieces; a stretch that does not fit into the rest of one begins the next.
        const readPart = (into: Buffer, bytes: number) => {
          try {
            readFully(file, into, bytes, offset);
          } catch (error) {
            throw asDamage(path, error);
          }
        };
        const take = (bytes: number): Buffer => {
          if (bytes > available) {
            buffer.copyWithin(0, at, at + available);
            at = 0;
            const more = Math.min(CHUNK_BYTES - available, left);
            readPart(buffer.subarray(available), more);
            crc = crc32(buffer.subarray(available, available + more), crc);
            offset += more;
            left -= more;
            available += more;
          }
          const part = buffer.subarray(at, at + bytes);
          at += bytes;
          available -= bytes;
          return part;
        };
        await forEachStretch(table.runs, (first, pages) => visit(first, take(pages * PAGE_BYTES)), signal, pace);
        if (crc !== table.crc) throw damagedFile(path, 'its checksum is wrong');
      } finally {
        closeSync(file);
      }
    },
  };
}

/** The table alone. Throws `snapshot_damaged`. */
export function readPageTable(path: string, { hasPages }: { readonly hasPages: boolean }): PageTable {
  let file: number;
  try {
    file = openSync(path, 'r');
  } catch (cause) {
    throw asDamage(path, cause);
  }
  try {
    const { size } = fstatSync(file);
    const header = Buffer.alloc(HEADER_BYTES);
    if (size < HEADER_BYTES) throw damagedFile(path, 'it is too short');
    readFully(file, header, HEADER_BYTES, 0);
    if (!header.subarray(0, MAGIC.length).equals(MAGIC)) throw damagedFile(path, 'it does not begin as it must');
    const runCount = header.readUInt32LE(24);
    const pageCount = header.readUInt32LE(28);
    const tableBytes = HEADER_BYTES + runCount * 8;
    const wantedBytes = hasPages ? roundUp(tableBytes) + pageCount * PAGE_BYTES : tableBytes;
    if (pageCount > MAX_PAGES || size !== (hasPages ? wantedBytes : roundUp(tableBytes)))
      throw damagedFile(path, `it has ${size} bytes`);
    const whole = Buffer.alloc(roundUp(tableBytes));
    readFully(file, whole, whole.length, 0);
    const isFilledUp = whole.subarray(tableBytes).every((byte) => byte === 0);
    if (!isFilledUp || crc32(whole.subarray(16, tableBytes)) !== whole.readUInt32LE(8))
      throw damagedFile(path, 'the checksum of its table is wrong');
    const runs = new Uint32Array(runCount * 2);
    for (let index = 0; index < runs.length; index++) runs[index] = whole.readUInt32LE(HEADER_BYTES + index * 4);
    const memoryBytes = Number(whole.readBigUInt64LE(16));
    if (countPages(runs) !== pageCount) throw damagedFile(path, 'its table contradicts itself');
    return { memoryBytes, runs, pageCount, crc: whole.readUInt32LE(12) };
  } catch (error) {
    throw asDamage(path, error);
  } finally {
    closeSync(file);
  }
}

function encodeTable({ memoryBytes, runs, pageCount, crc }: PageTable): Buffer {
  const whole = Buffer.alloc(roundUp(HEADER_BYTES + runs.length * 4));
  MAGIC.copy(whole);
  whole.writeUInt32LE(crc, 12);
  whole.writeBigUInt64LE(BigInt(memoryBytes), 16);
  whole.writeUInt32LE(runs.length / 2, 24);
  whole.writeUInt32LE(pageCount, 28);
  for (let index = 0; index < runs.length; index++) whole.writeUInt32LE(runs[index] ?? 0, HEADER_BYTES + index * 4);
  whole.writeUInt32LE(crc32(whole.subarray(16, HEADER_BYTES + runs.length * 4)), 8);
  return whole;
}

function dataOffset(runs: PageRuns): number {
  return roundUp(HEADER_BYTES + runs.length * 4);
}

function roundUp(bytes: number): number {
  return Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES;
}

export function writeFully(file: number, bytes: Buffer, position: number): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done, bytes.length - done, position + done);
}

/** What the system says of a file that it cannot read: it is missing, or the disk under it fails. Other errors stay what they are. */
export function asDamage(path: string, error: unknown): unknown {
  if (!(error instanceof Error && 'syscall' in error)) return error;
  return unreadableFile(path, error);
}
