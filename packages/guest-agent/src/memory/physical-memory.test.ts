import assert from 'node:assert/strict';
import { test } from 'node:test';
import { collapsibleRanges } from './collapse.ts';
import { kcoreHeaderBytes, locateMemory, parseSystemRam } from './physical-memory.ts';

const IOMEM = `00000000-00000fff : Reserved
00001000-0009fbff : System RAM
000a0000-000bffff : PCI Bus 0000:00
00100000-1fffffff : System RAM
  01000000-01ffffff : Kernel code
100000000-13fffffff : System RAM
`;

interface Segment {
  readonly type?: number;
  readonly offset: bigint;
  readonly physical: bigint;
  readonly bytes: bigint;
}

/** The headers of a kcore with these segments. */
function kcore(segments: readonly Segment[]): Buffer {
  const header = Buffer.alloc(64 + 56 * segments.length);
  header.set([0x7f, 0x45, 0x4c, 0x46, 2]);
  header.writeBigUInt64LE(64n, 32);
  header.writeUInt16LE(segments.length, 56);
  for (const [index, { type = 1, offset, physical, bytes }] of segments.entries()) {
    const at = 64 + 56 * index;
    header.writeUInt32LE(type, at);
    header.writeBigUInt64LE(offset, at + 8);
    header.writeBigUInt64LE(physical, at + 24);
    header.writeBigUInt64LE(bytes, at + 40);
  }
  return header;
}

test('RAM is what the kernel names so at the top level', () => {
  assert.deepEqual(parseSystemRam(IOMEM), [
    { start: 0x1000n, end: 0x9fc00n },
    { start: 0x100000n, end: 0x20000000n },
    { start: 0x100000000n, end: 0x140000000n },
  ]);
  assert.deepEqual(parseSystemRam('00000000-00000000 : System RAM\n'), [], 'what users without root see');
});

test('each byte of RAM is found once, also where the kernel’s text is listed a second time', () => {
  const header = kcore([
    { offset: 0x9000n, physical: 0x1000000n, bytes: 0x1000000n },
    { offset: 0x7000_0000n, physical: 0xffff_ffff_ffff_ffffn, bytes: 0x4000_0000n },
    { type: 4, offset: 0n, physical: 0n, bytes: 0x1000n },
    { offset: 0x100_0000n, physical: 0x1000n, bytes: 0x9f000n },
    { offset: 0x110_0000n, physical: 0x100000n, bytes: 0x1ff00000n },
  ]);
  assert.equal(kcoreHeaderBytes(header.subarray(0, 64)), header.length);
  assert.deepEqual(locateMemory(header, parseSystemRam(IOMEM)), [
    { physicalAddress: 0x1000n, fileOffset: 0x100_0000n, bytes: 0x9ec00n },
    { physicalAddress: 0x100000n, fileOffset: 0x110_0000n, bytes: 0x1ff00000n },
  ]);
});

test('a file that is no kcore is refused', () => {
  assert.throws(() => kcoreHeaderBytes(Buffer.alloc(64)), /no 64-bit ELF/);
  assert.throws(() => kcoreHeaderBytes(Buffer.alloc(10)), /no 64-bit ELF/);
});

test('only private anonymous memory with room for a huge page is collapsed', () => {
  const maps = `00400000-00800000 r-xp 00000000 08:01 12 /usr/bin/node
7f0000001000-7f0000600000 rw-p 00000000 00:00 0
7f1000000000-7f1000001000 rw-p 00000000 00:00 0
7f2000000000-7f2000400000 rw-s 00000000 00:05 1 /dev/zero
01a00000-01e00000 rw-p 00000000 00:00 0                                  [heap]
7ffc00000000-7ffc00800000 rw-p 00000000 00:00 0                          [stack]
`;
  assert.deepEqual(collapsibleRanges(maps), [
    { start: 0x7f0000200000n, end: 0x7f0000600000n },
    { start: 0x1a00000n, end: 0x1e00000n },
  ]);
});
