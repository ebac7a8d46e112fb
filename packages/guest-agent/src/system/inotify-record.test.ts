import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type InotifyRecord, parseInotifyRecords } from './inotify-record.ts';

/** Lays a record out as the kernel does: the name ended by NUL and padded to a multiple of 16 bytes. */
function encode({ wd, mask, cookie, name }: InotifyRecord): Buffer {
  const bytes = Buffer.from(name, 'utf8');
  const padded = Buffer.alloc(bytes.length === 0 ? 0 : Math.ceil((bytes.length + 1) / 16) * 16);
  bytes.copy(padded);
  const header = Buffer.alloc(16);
  header.writeInt32LE(wd, 0);
  header.writeUInt32LE(mask, 4);
  header.writeUInt32LE(cookie, 8);
  header.writeUInt32LE(padded.length, 12);
  return Buffer.concat([header, padded]);
}

const uint32 = fc.integer({ min: 0, max: 0xffff_ffff });
const record: fc.Arbitrary<InotifyRecord> = fc.record(
  {
    wd: fc.integer({ min: -1, max: 0x7fff_ffff }),
    mask: uint32,
    cookie: uint32,
    name: fc
      .string({ unit: 'grapheme', maxLength: 60 })
      .filter((name) => !name.includes('\0') && Buffer.from(name).toString() === name),
  },
  { noNullPrototype: true },
);

test('whatever records the kernel lays out are read back in order', () => {
  fc.assert(
    fc.property(fc.array(record), (records) => {
      assert.deepEqual(parseInotifyRecords(Buffer.concat(records.map(encode))), records);
    }),
  );
});

test('data that ends inside a record is refused, wherever it is cut', () => {
  fc.assert(
    fc.property(fc.array(record, { maxLength: 4 }), record, fc.nat(), (before, last, cut) => {
      const tail = encode(last);
      const partial = tail.subarray(0, 1 + (cut % (tail.length - 1)));
      assert.throws(() => parseInotifyRecords(Buffer.concat([...before.map(encode), partial])), RangeError);
    }),
  );
});

test('arbitrary bytes give records or a RangeError, and never anything else', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      try {
        assert.ok(Array.isArray(parseInotifyRecords(Buffer.from(bytes))));
      } catch (error) {
        assert.ok(error instanceof RangeError);
      }
    }),
  );
});

test('a name that fills its field to the last byte needs no terminator', () => {
  const data = Buffer.concat([encode({ wd: 7, mask: 2, cookie: 0, name: '' }), Buffer.from('sixteen bytes!!!')]);
  data.writeUInt32LE(16, 12);
  assert.deepEqual(parseInotifyRecords(data), [{ wd: 7, mask: 2, cookie: 0, name: 'sixteen bytes!!!' }]);
});
