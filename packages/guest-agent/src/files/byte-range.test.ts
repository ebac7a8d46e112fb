import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseRange, type RangeRequest, rangeLength } from './byte-range.ts';

const cases: readonly (readonly [header: string, size: number, ranges: RangeRequest])[] = [
  ['bytes=0-4', 10, [{ start: 0, end: 4 }]],
  ['bytes=2-', 10, [{ start: 2, end: 9 }]],
  ['bytes=-3', 10, [{ start: 7, end: 9 }]],
  ['bytes=-30', 10, [{ start: 0, end: 9 }]],
  ['bytes=5-500', 10, [{ start: 5, end: 9 }]],
  [
    'bytes= 0 - 1 , -1',
    10,
    [
      { start: 0, end: 1 },
      { start: 9, end: 9 },
    ],
  ],
  ['bytes=20-30,0-1', 10, [{ start: 0, end: 1 }]],
  ['bytes=10-', 10, 'unsatisfiable'],
  ['bytes=-0', 10, 'unsatisfiable'],
  ['bytes=0-', 0, 'whole'],
  ['bytes=0-9,0-9', 10, 'whole'],
  ['bytes=', 10, 'whole'],
  ['bytes=4-2', 10, 'malformed'],
  ['bytes=-', 10, 'malformed'],
  ['bytes=a-b', 10, 'malformed'],
  ['bytes=1', 10, 'malformed'],
  ['items=0-1', 10, 'malformed'],
  ['bytes=--1', 10, 'malformed'],
];

for (const [header, size, ranges] of cases) {
  test(`${header} of ${size} bytes is ${JSON.stringify(ranges)}`, () => {
    assert.deepEqual(parseRange(header, size), ranges);
  });
}

test('whatever is asked for, ranges lie inside of the file and are together not longer than it', () => {
  const item = fc.oneof(
    fc.tuple(fc.nat(40), fc.nat(40)).map(([a, b]) => `${a}-${b}`),
    fc.string(),
  );
  fc.assert(
    fc.property(fc.array(item), fc.nat(30), (items, size) => {
      const ranges = parseRange(`bytes=${items.join(',')}`, size);
      if (typeof ranges === 'string') return;
      assert.ok(ranges.length > 0);
      let sum = 0;
      for (const range of ranges) {
        assert.ok(range.start >= 0 && range.start <= range.end && range.end < size);
        sum += rangeLength(range);
      }
      assert.ok(sum <= size);
    }),
  );
});
