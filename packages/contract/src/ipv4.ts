/** IPv4 addresses as numbers from 0 to 2^32 − 1; both ends belong to the range. */
export interface AddressRange {
  readonly first: number;
  readonly last: number;
}

export const LAST_ADDRESS = 2 ** 32 - 1;

/** Dotted decimal with four numbers and no leading zeros; undefined for anything else. */
export function parseIpv4(text: string): number | undefined {
  const parts = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text)?.slice(1);
  if (parts === undefined) return undefined;
  let address = 0;
  for (const part of parts) {
    const value = Number(part);
    if (value > 255 || String(value) !== part) return undefined;
    address = address * 256 + value;
  }
  return address;
}

export function formatIpv4(address: number): string {
  return [24, 16, 8, 0].map((shift) => (address >>> shift) & 0xff).join('.');
}

/** An address or a CIDR block; bits beyond the prefix do not matter. Undefined for anything else. */
export function parseRange(text: string): AddressRange | undefined {
  const [before = '', prefix, ...more] = text.split('/');
  const address = parseIpv4(before);
  if (address === undefined || more.length > 0) return undefined;
  if (prefix === undefined) return { first: address, last: address };
  if (!/^(?:[0-9]|[12][0-9]|3[0-2])$/.test(prefix)) return undefined;
  const size = 2 ** (32 - Number(prefix));
  const first = Math.floor(address / size) * size;
  return { first, last: first + size - 1 };
}

/** The same addresses in order, with no two ranges that overlap or touch. */
export function mergeRanges(ranges: readonly AddressRange[]): AddressRange[] {
  const merged: AddressRange[] = [];
  for (const range of ranges.toSorted((a, b) => a.first - b.first)) {
    const before = merged.at(-1);
    if (before === undefined || range.first > before.last + 1) merged.push(range);
    else if (range.last > before.last) merged[merged.length - 1] = { first: before.first, last: range.last };
  }
  return merged;
}

/** What is in `ranges` and not in `without`; merged. */
export function subtractRanges(ranges: readonly AddressRange[], without: readonly AddressRange[]): AddressRange[] {
  const holes = mergeRanges(without);
  const left: AddressRange[] = [];
  for (const { first, last } of mergeRanges(ranges)) {
    let next = first;
    for (const hole of holes) {
      if (hole.last < next) continue;
      if (hole.first > last) break;
      if (hole.first > next) left.push({ first: next, last: hole.first - 1 });
      next = hole.last + 1;
    }
    if (next <= last) left.push({ first: next, last });
  }
  return left;
}

/** The ranges must be merged. */
export function includesAddress(ranges: readonly AddressRange[], address: number): boolean {
  return ranges.some(({ first, last }) => first <= address && address <= last);
}

export function coversEverything(ranges: readonly AddressRange[]): boolean {
  const [only, ...others] = mergeRanges(ranges);
  return others.length === 0 && only?.first === 0 && only.last === LAST_ADDRESS;
}
