import { closeSync, fstatSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import { PAGE_BYTES } from '../../../memory/page-runs.ts';

const STRETCH_PAGES = 256;
const ZERO = Buffer.alloc(PAGE_BYTES);

/**
 * Memory of a guest that does not exist, as a real one would behave: anonymous after a boot, a private mapping of a file
 * after a load; what the guest writes is on top, and pages that it wrote are dirty until a snapshot is taken.
 */
export class GuestMemory {
  readonly pageCount: number;
  readonly #pages = new Map<number, Buffer>();
  readonly #dirty = new Set<number>();
  readonly #base: number | undefined;
  readonly #scratch = Buffer.alloc(PAGE_BYTES);
  #ticks = 0;

  private constructor(pageCount: number, base: number | undefined) {
    this.pageCount = pageCount;
    this.#base = base;
  }

  static blank(bytes: number): GuestMemory {
    return new GuestMemory(bytes / PAGE_BYTES, undefined);
  }

  static mapped(path: string): GuestMemory {
    const file = openSync(path, 'r');
    return new GuestMemory(fstatSync(file).size / PAGE_BYTES, file);
  }

  /** The guest runs for a moment: it writes pages, and zeroes one that it wrote before. */
  tick(): void {
    this.#ticks++;
    const seed = (process.hrtime()[1] & 0xff) | 1;
    for (let at = 0; at < 5; at++)
      this.#write(100 + ((this.#ticks * 7 + at) % 900), Buffer.alloc(PAGE_BYTES, seed + at));
    this.#write(99, Buffer.alloc(PAGE_BYTES, this.#ticks & 0xff || 1));
    // Written in an earlier moment of this life or another one.
    this.#write(100 + (((this.#ticks - 1) * 7 + 900) % 900), ZERO);
  }

  #write(page: number, content: Buffer): void {
    this.#pages.set(page, content);
    this.#dirty.add(page);
  }

  /** Good until the next call: a buffer for each page would be more than a VM manager's memory limit allows. */
  read(page: number): Buffer {
    const written = this.#pages.get(page);
    if (written !== undefined) return written;
    if (this.#base === undefined) return ZERO;
    readSync(this.#base, this.#scratch, 0, PAGE_BYTES, page * PAGE_BYTES);
    return this.#scratch;
  }

  /** All pages that are not zero, as one number. */
  digest(): number {
    let sum = 0;
    const stretch = Buffer.alloc(STRETCH_PAGES * PAGE_BYTES);
    for (let first = 0; first < this.pageCount; first += STRETCH_PAGES) {
      if (this.#base === undefined) stretch.fill(0);
      else readSync(this.#base, stretch, 0, stretch.length, first * PAGE_BYTES);
      for (let at = 0; at < STRETCH_PAGES && first + at < this.pageCount; at++) {
        const page = this.#pages.get(first + at) ?? stretch.subarray(at * PAGE_BYTES, (at + 1) * PAGE_BYTES);
        if (!page.equals(ZERO)) sum = crc32(page, crc32(String(first + at), sum));
      }
    }
    return sum;
  }

  /** As Firecracker's Diff: dirty pages go into the file, which keeps what else it has; then all are clean. */
  dumpDirty(path: string): void {
    this.#dump(path, 'a+', this.#dirty);
    this.#dirty.clear();
  }

  /** Everything. `sparse`: pages that nobody has touched stay holes, zero or not. */
  dumpAll(path: string, { sparse, flags }: { readonly sparse: boolean; readonly flags: 'w' | 'wx' }): void {
    const pages = sparse ? this.#pages.keys() : Array.from({ length: this.pageCount }, (_, page) => page);
    this.#dump(path, flags, pages);
    this.#dirty.clear();
  }

  #dump(path: string, flags: 'a+' | 'w' | 'wx', pages: Iterable<number>): void {
    if (flags === 'a+') closeSync(openSync(path, 'a', 0o600));
    const file = openSync(path, flags === 'a+' ? 'r+' : flags, 0o600);
    try {
      const bytes = this.pageCount * PAGE_BYTES;
      if (fstatSync(file).size !== bytes) ftruncateSync(file, 0);
      ftruncateSync(file, bytes);
      for (const page of pages) writeSync(file, this.read(page), 0, PAGE_BYTES, page * PAGE_BYTES);
    } finally {
      closeSync(file);
    }
  }

  /** Everything of the file is in the memory now, as after an eager restore or a preload. */
  touchAll(): void {
    for (let page = 0; page < this.pageCount; page++) {
      if (this.#pages.has(page)) continue;
      const content = this.read(page);
      if (!content.equals(ZERO)) this.#pages.set(page, Buffer.from(content));
    }
  }

  close(): void {
    if (this.#base !== undefined) closeSync(this.#base);
  }
}
