import { closeSync, fstatSync, ftruncateSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { NestboxError } from '@nestbox/contract';
import { nextData } from './file-extents.ts';
import type { ChangedMemory } from './page-file.ts';
import { PAGE_BYTES, type PageRuns, RunBuilder } from './page-runs.ts';
import { readFully } from './process-memory.ts';

/**
 * Changed pages of a guest's memory in a sparse file of the memory's size: a hole is a page that did not change. Content tells nothing, since a
 * page that the guest has zeroed is there, with zeros.
 */
export class SparseMemory implements ChangedMemory, Disposable {
  readonly pageCount: number;
  readonly #file: number;

  private constructor(file: number, memoryBytes: number) {
    this.#file = file;
    this.pageCount = memoryBytes / PAGE_BYTES;
  }

  /** Throws `internal` for a file of another size. */
  static open(path: string, memoryBytes: number): SparseMemory {
    const file = openSync(path, 'r');
    const { size } = fstatSync(file);
    if (size === memoryBytes) return new SparseMemory(file, memoryBytes);
    closeSync(file);
    throw new NestboxError('internal', `${path} has ${size} bytes, but the guest's memory has ${memoryBytes}.`);
  }

  changedPages(): PageRuns {
    const bytes = this.pageCount * PAGE_BYTES;
    const runs = new RunBuilder();
    for (let at = 0; at < bytes; ) {
      const extent = nextData(this.#file, at, bytes);
      if (extent === undefined) break;
      const first = Math.floor(extent.start / PAGE_BYTES);
      runs.add(first, Math.ceil(extent.end / PAGE_BYTES) - first);
      at = extent.end;
    }
    return runs.runs();
  }

  read(firstPage: number, into: Buffer): void {
    readFully(this.#file, into, into.length, firstPage * PAGE_BYTES);
  }

  [Symbol.dispose](): void {
    closeSync(this.#file);
  }
}

const PROBE_PAGES = 256;
const PROBE_PAGE = 101;

/**
 * File systems with larger blocks than a page (ZFS, bigalloc) make the pages around a written one data as well, and these would
 * be taken for zeroed by the guest. Throws not_supported on one.
 */
export function requireExactHoles(folder: string): void {
  const path = join(folder, `.holes-${process.pid}-${performance.now()}`);
  const file = openSync(path, 'wx', 0o600);
  try {
    ftruncateSync(file, PROBE_PAGES * PAGE_BYTES);
    writeSync(file, Buffer.alloc(PAGE_BYTES, 1), 0, PAGE_BYTES, PROBE_PAGE * PAGE_BYTES);
    using memory = SparseMemory.open(path, PROBE_PAGES * PAGE_BYTES);
    const [first, count, more] = memory.changedPages();
    if (first === PROBE_PAGE && count === 1 && more === undefined) return;
    throw new NestboxError('not_supported', `The file system of ${folder} does not keep holes of 4 KiB in files.`);
  } finally {
    closeSync(file);
    rmSync(path);
  }
}
