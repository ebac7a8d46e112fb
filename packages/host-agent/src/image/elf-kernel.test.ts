import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { bzImagePayload, extractPvhKernel, hasPvhEntry } from './elf-kernel.ts';

/** A note as in xen/elfnote.h. */
function note(name: string, type: number, description: Buffer): Buffer {
  const head = Buffer.alloc(12);
  const nameBytes = Buffer.from(`${name}\0`);
  head.writeUInt32LE(nameBytes.length, 0);
  head.writeUInt32LE(description.length, 4);
  head.writeUInt32LE(type, 8);
  const fill = (length: number) => Buffer.alloc((4 - (length % 4)) % 4);
  return Buffer.concat([head, nameBytes, fill(nameBytes.length), description, fill(description.length)]);
}

/** A 64-bit ELF with one program header of type PT_NOTE. */
function elfWithNotes(notes: Buffer): Buffer {
  const elf = Buffer.alloc(64 + 56);
  elf.writeUInt32BE(0x7f454c46, 0);
  elf[4] = 2;
  elf.writeBigUInt64LE(64n, 32);
  elf.writeUInt16LE(56, 54);
  elf.writeUInt16LE(1, 56);
  elf.writeUInt32LE(4, 64);
  elf.writeBigUInt64LE(BigInt(elf.length), 64 + 8);
  elf.writeBigUInt64LE(BigInt(notes.length), 64 + 32);
  return Buffer.concat([elf, notes, Buffer.alloc(5000, 'kernel')]);
}

/** A bzImage with a packed kernel behind one set-up sector. */
function bzImage(payload: Buffer): Buffer {
  const head = Buffer.alloc(1024);
  head[0x1f1] = 1;
  head.write('HdrS', 0x202, 'latin1');
  head.writeUInt16LE(0x20f, 0x206);
  head.writeUInt32LE(16, 0x248);
  head.writeUInt32LE(payload.length, 0x24c);
  return Buffer.concat([head, Buffer.alloc(16), payload, Buffer.alloc(100)]);
}

const PVH_NOTES = Buffer.concat([note('GNU', 3, Buffer.alloc(20)), note('Xen', 18, Buffer.alloc(4))]);
const SIZE_FIELD = Buffer.alloc(4, 0xee);

test('the kernel comes out of a bzImage in each form that kernels are packed in', async () => {
  const kernel = elfWithNotes(PVH_NOTES);
  const packed: Record<string, Buffer> = {
    gzip: gzipSync(kernel),
    zstd: Buffer.concat([zstdCompressSync(kernel), SIZE_FIELD]),
    lz4: Buffer.concat([execFileSync('lz4', ['-l', '-c'], { input: kernel }), SIZE_FIELD]),
    xz: Buffer.concat([execFileSync('xz', ['-c', '--check=crc32'], { input: kernel }), SIZE_FIELD]),
  };
  for (const [form, payload] of Object.entries(packed)) {
    const found = await extractPvhKernel(bzImage(payload));
    assert.ok(found !== undefined, form);
    assert.deepEqual(Buffer.from(found), kernel, form);
  }
});

test('a kernel without the PVH entry is not taken', async () => {
  const kernel = elfWithNotes(note('Xen', 6, Buffer.alloc(4)));
  assert.equal(await extractPvhKernel(bzImage(gzipSync(kernel))), undefined);
});

test('a kernel packed in an unknown form is not taken', async () => {
  assert.equal(await extractPvhKernel(bzImage(Buffer.from('unknown form, unknown form'))), undefined);
});

test('a file that is no bzImage has no payload', () => {
  assert.equal(bzImagePayload(Buffer.alloc(4096)), undefined);
  assert.equal(bzImagePayload(new Uint8Array(3)), undefined);
});

test('damaged kernels are told apart without an error, whatever is damaged', () => {
  const kernel = elfWithNotes(PVH_NOTES);
  fc.assert(
    fc.property(
      fc.nat(kernel.length - 1),
      fc.integer({ min: 0, max: 255 }),
      fc.nat(kernel.length),
      (at, byte, length) => {
        const damaged = Buffer.from(kernel.subarray(0, length));
        if (at < length) damaged[at] = byte;
        assert.equal(typeof hasPvhEntry(damaged), 'boolean');
      },
    ),
  );
});
