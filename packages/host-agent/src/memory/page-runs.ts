/** The guest's pages, and the host's. Huge pages never reach a private mapping of an ordinary file. */
export const PAGE_BYTES = 4096;

/**
 * Runs of pages as flat pairs: first page, number of pages; ascending, apart from each other. Flat, because a large guest
 * may have hundreds of thousands of them.
 */
export type PageRuns = Uint32Array;

export function countPages(runs: PageRuns): number {
  let pages = 0;
  for (let index = 1; index < runs.length; index += 2) pages += runs[index] ?? 0;
  return pages;
}

/** Every page that is in either. */
export function unite(a: PageRuns, b: PageRuns): PageRuns {
  const out = new RunBuilder();
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    const takeA = j >= b.length || (i < a.length && (a[i] ?? 0) <= (b[j] ?? 0));
    if (takeA) {
      out.add(a[i] ?? 0, a[i + 1] ?? 0);
      i += 2;
    } else {
      out.add(b[j] ?? 0, b[j + 1] ?? 0);
      j += 2;
    }
  }
  return out.runs();
}

/** Every page of the first that is not in the second. */
export function subtract(a: PageRuns, b: PageRuns): PageRuns {
  const out = new RunBuilder();
  let j = 0;
  for (let i = 0; i < a.length; i += 2) {
    let at = a[i] ?? 0;
    const end = at + (a[i + 1] ?? 0);
    while (j < b.length && (b[j] ?? 0) + (b[j + 1] ?? 0) <= at) j += 2;
    for (let k = j; at < end; k += 2) {
      const next = k < b.length ? (b[k] ?? 0) : end;
      if (next > at) out.add(at, Math.min(next, end) - at);
      at = k < b.length ? Math.max(at, next + (b[k + 1] ?? 0)) : end;
    }
  }
  return out.runs();
}

/** Collects runs whose first pages ascend; what touches or overlaps becomes one. */
export class RunBuilder {
  #pairs = new Uint32Array(1024);
  #length = 0;

  add(first: number, count: number): void {
    const lastStart = this.#length - 2;
    if (lastStart >= 0) {
      const end = (this.#pairs[lastStart] ?? 0) + (this.#pairs[lastStart + 1] ?? 0);
      if (first <= end) {
        const newEnd = Math.max(end, first + count);
        this.#pairs[lastStart + 1] = newEnd - (this.#pairs[lastStart] ?? 0);
        return;
      }
    }
    if (this.#length === this.#pairs.length) {
      const larger = new Uint32Array(this.#pairs.length * 2);
      larger.set(this.#pairs);
      this.#pairs = larger;
    }
    this.#pairs[this.#length] = first;
    this.#pairs[this.#length + 1] = count;
    this.#length += 2;
  }

  runs(): PageRuns {
    return this.#pairs.slice(0, this.#length);
  }
}
