/** Both ends belong to it. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/** `malformed` and `unsatisfiable` are both answered 416, but only the latter tells the size. */
export type RangeRequest = readonly ByteRange[] | 'whole' | 'malformed' | 'unsatisfiable';

/**
 * Parses a Range header (RFC 9110, section 14) for a file of `size` bytes, as Go's net/http does: ranges that begin
 * behind the end are left out, no range at all in an empty file is the whole of it, and so are ranges which together
 * ask for more than the file has.
 */
export function parseRange(header: string, size: number): RangeRequest {
  const list = /^bytes=(.*)$/.exec(header)?.[1];
  if (list === undefined) return 'malformed';
  const ranges: ByteRange[] = [];
  let asked = 0;
  for (const item of list.split(',').map((text) => text.trim())) {
    if (item === '') continue;
    asked += 1;
    const [, first = '', last = ''] = /^(\d*)-(\d*)$/.exec(item.replaceAll(/\s/g, '')) ?? [];
    const range = first === '' ? lastBytes(last, size) : bytesFrom(Number(first), last, size);
    if (range === undefined) return 'malformed';
    if (range.start < size && range.start <= range.end) ranges.push(range);
  }
  if (asked === 0) return 'whole';
  if (ranges.length === 0) return size === 0 ? 'whole' : 'unsatisfiable';
  return ranges.reduce((sum, range) => sum + rangeLength(range), 0) > size ? 'whole' : ranges;
}

export function rangeLength({ start, end }: ByteRange): number {
  return end - start + 1;
}

/** The value of Content-Range. */
export function contentRange({ start, end }: ByteRange, size: number): string {
  return `bytes ${start}-${end}/${size}`;
}

function bytesFrom(start: number, last: string, size: number): ByteRange | undefined {
  const end = last === '' ? size - 1 : Number(last);
  if (last !== '' && start > end) return undefined;
  return { start, end: Math.min(end, size - 1) };
}

function lastBytes(count: string, size: number): ByteRange | undefined {
  if (count === '') return undefined;
  return { start: Math.max(0, size - Number(count)), end: size - 1 };
}
