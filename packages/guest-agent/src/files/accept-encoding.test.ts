import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { acceptsIdentity, negotiateEncoding } from './accept-encoding.ts';

const cases: readonly (readonly [header: string | undefined, coding: string | undefined])[] = [
  [undefined, 'identity'],
  ['', 'identity'],
  ['gzip', 'gzip'],
  ['GZip', 'gzip'],
  ['gzip, deflate, br', 'gzip'],
  ['br', 'identity'],
  ['identity, gzip', 'identity'],
  ['gzip, identity', 'gzip'],
  ['gzip;q=0.5, identity;q=0.8', 'identity'],
  ['identity;q=0.5, gzip;q=0.8', 'gzip'],
  ['gzip;q=0', 'identity'],
  ['*', 'identity'],
  ['*, identity;q=0', 'gzip'],
  ['*;q=0.5, gzip;q=0.1', 'identity'],
  ['br, identity;q=0', undefined],
  ['gzip;q=0, identity;q=0', undefined],
  ['gzip ; q=0.2 , identity ; q=0.1', 'gzip'],
  ['gzip;q=abc', 'gzip'],
];

for (const [header, coding] of cases) {
  test(`a client that accepts ${header ?? 'nothing in particular'} gets ${coding ?? 'nothing'}`, () => {
    assert.equal(negotiateEncoding(header), coding);
  });
}

test('whatever the header says, identity is never chosen against the will of the client', () => {
  fc.assert(
    fc.property(fc.string(), (header) => {
      if (negotiateEncoding(header) === 'identity') assert.ok(acceptsIdentity(header));
    }),
  );
});
