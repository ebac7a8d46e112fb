import { closeSync, openSync } from 'node:fs';

import { CHUNK_BYTES, type ChangedMemory, forEachStretch } from './page-file.ts';
import { PAGE_BYTES, type PageRuns, RunBuilder } from './page-runs.ts';
import { readFully } from './process-memory.ts';

/**
 * Memory of a guest of which there is a whole copy in a file: what changed is what differs from the image. A page that was written
 * with what it held before counts as unchanged, which is the same to a guest.
 */
export class ComparedMemory implements ChangedMemory {
  readonly pageCount: number;
  readonly #file: number;
  readonly #runs: PageRuns;

  private constructor(file: number, pageCount: number, runs: PageRuns) {
    this.#file = file;
    this.pageCount = pageCount;
    this.#runs = runs;
  }

  /** `file` is an open file of `memoryBytes` bytes, which the caller closes. Others get their turn while it is read. */
  static async compare(
    file: number,
    imagePath: string,
    memoryBytes: number,
    signal?: AbortSignal,
  ): Promise<ComparedMemory> {
    const pageCount = memoryBytes / PAGE_BYTES;
    const image = openSync(imagePath, 'r');
    try {
      const runs = new RunBuilder();
      const now = Buffer.allocUnsafeSlow(CHUNK_BYTES);
      const before = Buffer.allocUnsafeSlow(CHUNK_BYTES);
      await forEachStretch(
        new Uint32Array([0, pageCount]),
        (first, pages) => {
          const bytes = pages * PAGE_BYTES;
          readFully(file, now, bytes, first * PAGE_BYTES);
          readFully(image, before, bytes, first * PAGE_BYTES);
          if (now.compare(before, 0, bytes, 0, bytes) === 0) return;
          for (let page = 0; page < pages; page++) {
            const start = page * PAGE_BYTES;
            const end = start + PAGE_BYTES;
            if (now.compare(before, start, end, start, end) !== 0) runs.add(first + page, 1);
          }
        },
        signal,
      );
      return new ComparedMemory(file, pageCount, runs.runs());
    } finally {
      closeSync(image);
    }
  }

  changedPages(): PageRuns {
    return this.#runs;
  }

  read(firstPage: number, into: Buffer): void {
    readFully(this.#file, into, into.length, firstPage * PAGE_BYTES);
  }
}
