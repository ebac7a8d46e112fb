import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { inlineDisposition } from './content-disposition.ts';
import { sniffType, typeByExtension } from './content-type.ts';

test('extensions stand for the types that browsers know, texts in UTF-8', async () => {
  assert.equal(await typeByExtension('a.txt'), 'text/plain; charset=utf-8');
  assert.equal(await typeByExtension('a.tar.gz'), 'application/gzip');
  assert.equal(await typeByExtension('a.png'), 'image/png');
  assert.equal(await typeByExtension('main.ts'), undefined);
  assert.equal(await typeByExtension('.bashrc'), undefined);
  assert.equal(await typeByExtension('a.unheard-of'), undefined);
  assert.equal(await typeByExtension('Makefile'), undefined);
});

const contents: readonly (readonly [bytes: string, type: string])[] = [
  ['', 'text/plain; charset=utf-8'],
  ['words', 'text/plain; charset=utf-8'],
  ['grün', 'text/plain; charset=utf-8'],
  ['  <!DOCTYPE html>', 'text/html; charset=utf-8'],
  ['<html>', 'text/html; charset=utf-8'],
  ['<?xml version="1.0"?>', 'text/xml; charset=utf-8'],
  ['%PDF-1.7', 'application/pdf'],
  ['GIF89a', 'image/gif'],
  ['\xff\xd8\xff\xe0', 'image/jpeg'],
  ['RIFF\0\0\0\0WEBPVP8 ', 'image/webp'],
  ['\x1f\x8b\x08\0', 'application/x-gzip'],
  ['PK\x03\x04', 'application/zip'],
  ['\x7fELF\x02\x01', 'application/octet-stream'],
];

for (const [bytes, type] of contents) {
  test(`content that begins ${JSON.stringify(bytes)} is ${type}`, () => {
    assert.equal(sniffType(Buffer.from(bytes, 'latin1')), type);
  });
}

test('plain names stand bare, others in quotes, and those beyond ASCII encoded', () => {
  assert.equal(inlineDisposition('a-1.txt'), 'inline; filename=a-1.txt');
  assert.equal(inlineDisposition('a b"\\.txt'), 'inline; filename="a b\\"\\\\.txt"');
  assert.equal(inlineDisposition('€'), "inline; filename*=utf-8''%E2%82%AC");
});

test('any name gives a header that can be sent', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (name) => {
      assert.match(inlineDisposition(name), /^inline; filename(=|\*=utf-8'')[\x20-\x7e]*$/);
    }),
  );
});
