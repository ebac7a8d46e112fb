import assert from 'node:assert/strict';
import { test } from 'node:test';
import { interleave, quantile, Series } from './series.ts';

test('the median is the middle value, or lies between the two', () => {
  const series = new Series();
  for (const value of [9, 1, 5]) series.add(value);
  assert.deepEqual([series.median, series.smallest, series.largest, series.count], [5, 1, 9, 3]);
  assert.equal(quantile([1, 2, 3, 4], 0.5), 2.5);
  assert.equal(quantile([7], 0.5), 7);
  assert.ok(Number.isNaN(quantile([], 0.5)));
});

test('both sides are measured in turn', async () => {
  const order: string[] = [];
  const side = (name: string) => async () => order.push(name);
  const { ours, floor } = await interleave(2, side('ours'), side('floor'));
  assert.deepEqual(order, ['ours', 'floor', 'ours', 'floor']);
  assert.deepEqual([ours.median, floor.median], [2, 3]);
});
