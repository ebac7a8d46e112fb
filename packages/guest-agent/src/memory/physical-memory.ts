/** A piece of physical memory and where it lies in /proc/kcore. */
export interface MemoryRegion {
  readonly physicalAddress: bigint;
  readonly fileOffset: bigint;
  readonly bytes: bigint;
}

interface AddressRange {
  readonly start: bigint;
  /** Exclusive. */
  readonly end: bigint;
}

interface Segment extends AddressRange {
  readonly fileOffset: bigint;
}

const ELF_MAGIC = 0x7f45_4c46;
const ELF_HEADER_BYTES = 64;
const PROGRAM_HEADER_BYTES = 56;
const PT_LOAD = 1;
/** /proc/kcore's mark for segments that are not plain memory. */
const NO_PHYSICAL_ADDRESS = 0xffff_ffff_ffff_ffffn;

/** The ranges named `System RAM` at the top level of /proc/iomem. Root alone sees their addresses; others see zeros. */
export function parseSystemRam(iomem: string): AddressRange[] {
  const ranges: AddressRange[] = [];
  for (const [, start, end] of iomem.matchAll(/^([0-9a-f]+)-([0-9a-f]+) : System RAM$/gm)) {
    const range = { start: BigInt(`0x${start}`), end: BigInt(`0x${end}`) + 1n };
    if (range.end > range.start && range.end > 1n) ranges.push(range);
  }
  return ranges;
}

/** The size of a kcore's headers, for a first read of `ELF_HEADER_BYTES`. Throws when it is no 64-bit ELF file. */
export function kcoreHeaderBytes(start: Buffer): number {
  if (start.length < ELF_HEADER_BYTES || start.readUInt32BE(0) !== ELF_MAGIC || start[4] !== 2) {
    throw new Error('/proc/kcore is no 64-bit ELF file');
  }
  return Number(start.readBigUInt64LE(32)) + start.readUInt16LE(56) * PROGRAM_HEADER_BYTES;
}

/** The segments of a kcore that are physical memory, from its headers. */
function parseSegments(header: Buffer): Segment[] {
  const first = Number(header.readBigUInt64LE(32));
  const segments: Segment[] = [];
  for (let index = 0; index < header.readUInt16LE(56); index += 1) {
    const at = first + index * PROGRAM_HEADER_BYTES;
    const start = header.readBigUInt64LE(at + 24);
    if (header.readUInt32LE(at) !== PT_LOAD || start === NO_PHYSICAL_ADDRESS) continue;
    segments.push({ start, end: start + header.readBigUInt64LE(at + 40), fileOffset: header.readBigUInt64LE(at + 8) });
  }
  return segments;
}

/** Where each byte of RAM is found in the kcore with these headers, each once. */
export function locateMemory(header: Buffer, ram: readonly AddressRange[]): MemoryRegion[] {
  // The kernel's own text is listed again at another address; the larger segment is the direct map.
  const segments = parseSegments(header).sort((a, b) => Number(b.end - b.start - (a.end - a.start)));
  const regions: MemoryRegion[] = [];
  for (const range of ram) {
    let wanted: AddressRange[] = [range];
    for (const segment of segments) {
      wanted = wanted.flatMap((piece) => {
        // biome-ignore lint/complexity/useMathMinMax: Math takes no bigint.
        const start = piece.start > segment.start ? piece.start : segment.start;
        // biome-ignore lint/complexity/useMathMinMax: Math takes no bigint.
        const end = piece.end < segment.end ? piece.end : segment.end;
        if (start >= end) return [piece];
        regions.push({
          physicalAddress: start,
          fileOffset: segment.fileOffset + (start - segment.start),
          bytes: end - start,
        });
        const rest = [
          { start: piece.start, end: start },
          { start: end, end: piece.end },
        ];
        return rest.filter((part) => part.start < part.end);
      });
    }
  }
  return regions.sort((a, b) => (a.physicalAddress < b.physicalAddress ? -1 : 1));
}
