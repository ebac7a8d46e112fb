import { readFileSync } from 'node:fs';
import { libc } from '../system/libc.ts';

const HUGE_PAGE_BYTES = 2n * 1024n * 1024n;
const MADV_COLLAPSE = 25;

/** envd's CollapseResult. */
export interface CollapseResult {
  readonly regions: number;
  readonly chunks: number;
  readonly collapsed: number;
  readonly alreadyHuge: number;
  readonly skipped: number;
  readonly elapsedMs: number;
}

/** Private anonymous mappings of /proc/self/maps (proc_pid_maps(5)) that hold at least one aligned huge page. */
export function collapsibleRanges(maps: string): { readonly start: bigint; readonly end: bigint }[] {
  const ranges: { start: bigint; end: bigint }[] = [];
  for (const [, from, to] of maps.matchAll(/^([0-9a-f]+)-([0-9a-f]+) rw-p 0+ 00:00 0 *(?:\[heap\])?$/gm)) {
    const start = ((BigInt(`0x${from}`) + HUGE_PAGE_BYTES - 1n) / HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES;
    const end = (BigInt(`0x${to}`) / HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES;
    if (start < end) ranges.push({ start, end });
  }
  return ranges;
}

/**
 * Asks the kernel to back the agent's own memory with huge pages before a snapshot (madvise(2), MADV_COLLAPSE). It does
 * not say which ones were huge before: those count as collapsed.
 */
export function collapseMemory(): CollapseResult {
  const begin = performance.now();
  const madvise: (address: bigint, length: bigint, advice: number) => number = libc().func(
    'int madvise(uintptr_t address, size_t length, int advice)',
  );
  const ranges = collapsibleRanges(readFileSync('/proc/self/maps', 'utf8'));
  let chunks = 0;
  let collapsed = 0;
  for (const { start, end } of ranges) {
    for (let address = start; address < end; address += HUGE_PAGE_BYTES) {
      chunks += 1;
      if (madvise(address, HUGE_PAGE_BYTES, MADV_COLLAPSE) === 0) collapsed += 1;
    }
  }
  return {
    regions: ranges.length,
    chunks,
    collapsed,
    alreadyHuge: 0,
    skipped: chunks - collapsed,
    elapsedMs: Math.round(performance.now() - begin),
  };
}
