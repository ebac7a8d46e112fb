import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatSeconds } from './format-seconds.ts';

test('times are as precise as a person cares', () => {
  assert.equal(formatSeconds(0), '0 ms');
  assert.equal(formatSeconds(999.6), '1000 ms');
  assert.equal(formatSeconds(1234), '1.2 s');
  assert.equal(formatSeconds(65_000), '1 min 05 s');
  assert.equal(formatSeconds(119_700), '2 min 00 s');
});
