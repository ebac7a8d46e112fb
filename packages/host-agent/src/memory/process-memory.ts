import { closeSync, openSync, readFileSync, readSync, statSync, writeSync } from 'node:fs';
import { NestboxError } from '@nestbox/contract';
import { PAGE_BYTES, type PageRuns, RunBuilder } from './page-runs.ts';

/** From Documentation/admin-guide/mm/pagemap.rst; in the upper half of an entry. */
const PRESENT = 1 << 31;
const SWAPPED = 1 << 30;
const FILE_BACKED = 1 << 29;
/** Entries read at once: 256 MiB of the guest. */
const SCAN_PAGES = 65_536;

/**
 * The memory of a guest, which its VMM has as a private mapping of a memory image. Needs root.
 *
 * Addresses of user space stay below 2^47, so numbers hold them exactly and ordinary positioned reads and writes of Node
 * reach them.
 */
export class ProcessMemory implements Disposable {
  readonly #pid: number;
  readonly #memory: number;
  readonly #start: number;
  readonly pageCount: number;

  private constructor(pid: number, start: number, bytes: number, flags: 'r' | 'r+') {
    this.#pid = pid;
    this.#start = start;
    this.pageCount = bytes / PAGE_BYTES;
    this.#memory = openSync(`/proc/${pid}/mem`, flags);
  }

  /** What `find` finds. Throws `internal` when that is nothing. */
  static open(pid: number, imagePath: string, flags: 'r' | 'r+'): ProcessMemory {
    const found = ProcessMemory.find(pid, imagePath, flags);
    if (found === undefined) throw new NestboxError('internal', `The VMM ${pid} has no mapping of ${imagePath}.`);
    return found;
  }

  /**
   * Finds the mapping by the image's inode: its path may have changed. Undefined when there is none (yet). Throws `internal` when it is
   * not the guest's memory as a whole, and what the system says when the process is gone.
   */
  static find(pid: number, imagePath: string, flags: 'r' | 'r+'): ProcessMemory | undefined {
    const { ino } = statSync(imagePath);
    for (const line of readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n')) {
      const found = /^([0-9a-f]+)-([0-9a-f]+) (\S{4}) (\S+) \S+ (\d+)/.exec(line);
      if (found === null || Number(found[5]) !== ino) continue;
      const start = Number.parseInt(found[1] ?? '', 16);
      const end = Number.parseInt(found[2] ?? '', 16);
      if (found[3]?.[3] !== 'p' || found[4] !== '00000000')
        throw new NestboxError('internal', `The VMM ${pid} does not have ${imagePath} as private memory: ${line}`);
      return new ProcessMemory(pid, start, end - start, flags);
    }
    return undefined;
  }

  /**
   * The pages that differ from the image: those of the private mapping that are no page of the file any more. A page that
   * the guest has zeroed is one of them; content tells nothing.
   */
  changedPages(): PageRuns {
    const runs = new RunBuilder();
    const pagemap = openSync(`/proc/${this.#pid}/pagemap`, 'r');
    try {
      const buffer = Buffer.allocUnsafeSlow(Math.min(SCAN_PAGES, this.pageCount) * 8);
      const words = new Uint32Array(buffer.buffer, buffer.byteOffset, buffer.length / 4);
      for (let base = 0; base < this.pageCount; base += SCAN_PAGES) {
        const pages = Math.min(SCAN_PAGES, this.pageCount - base);
        readFully(pagemap, buffer, pages * 8, (this.#start / PAGE_BYTES + base) * 8);
        collectChanged(words, pages, base, runs);
      }
    } finally {
      closeSync(pagemap);
    }
    return runs.runs();
  }

  /** Fills the buffer with what the guest has from this page on. */
  read(page: number, into: Buffer): void {
    readFully(this.#memory, into, into.length, this.#start + page * PAGE_BYTES);
  }

  write(page: number, from: Buffer): void {
    const position = this.#start + page * PAGE_BYTES;
    for (let done = 0; done < from.length; )
      done += writeSync(this.#memory, from, done, from.length - done, position + done);
  }

  [Symbol.dispose](): void {
    closeSync(this.#memory);
  }
}

/** Entries of as many pages as share a table of the kernel's: where nothing is mapped, it fills in zeros for all of them. */
const TABLE_PAGES = 512;
const NOTHING_MAPPED = Buffer.alloc(TABLE_PAGES * 8);

function collectChanged(words: Uint32Array, pages: number, base: number, runs: RunBuilder): void {
  const bytes = Buffer.from(words.buffer, words.byteOffset, pages * 8);
  let runStart = -1;
  for (let page = 0; page < pages; page++) {
    // Most of an idle guest's memory: looking at each of its pages would take longer than copying the changed ones.
    if (page % TABLE_PAGES === 0 && isNothingMapped(bytes.subarray(page * 8, (page + TABLE_PAGES) * 8))) {
      if (runStart >= 0) runs.add(base + runStart, page - runStart);
      runStart = -1;
      page += TABLE_PAGES - 1;
      continue;
    }
    const upper = words[page * 2 + 1] ?? 0;
    const changed = (upper & (PRESENT | SWAPPED)) !== 0 && (upper & FILE_BACKED) === 0;
    if (changed === runStart >= 0) continue;
    if (changed) {
      runStart = page;
    } else {
      runs.add(base + runStart, page - runStart);
      runStart = -1;
    }
  }
  if (runStart >= 0) runs.add(base + runStart, pages - runStart);
}

function isNothingMapped(entries: Buffer): boolean {
  return NOTHING_MAPPED.compare(entries, 0, entries.length, 0, entries.length) === 0;
}

/** Throws when the end comes first. */
export function readFully(file: number, into: Buffer, bytes: number, position: number): void {
  for (let done = 0; done < bytes; ) {
    const got = readSync(file, into, done, bytes - done, position + done);
    if (got === 0) throw new Error(`read ${done} of ${bytes} bytes`);
    done += got;
  }
}
