import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatBytes } from './format-bytes.ts';

test('sizes have the unit that a person would choose', () => {
  const shown: readonly (readonly [number, string])[] = [
    [0, '0 B'],
    [1023, '1023 B'],
    [1024, '1.0 KiB'],
    [55_501, '54.2 KiB'],
    [1024 * 1024 - 1, '1.0 MiB'],
    [99.97 * 2 ** 20, '100 MiB'],
    [512 * 2 ** 20, '512 MiB'],
    [1.34 * 2 ** 30, '1.3 GiB'],
    [5000 * 2 ** 50, '5000 PiB'],
  ];
  for (const [bytes, words] of shown) assert.equal(formatBytes(bytes), words);
});
