import assert from 'node:assert/strict';
import { test } from 'node:test';
import { WarmTurns } from './warm-turns.ts';

const LARGE = { templateId: 'large', count: 10 };
const SMALL = { templateId: 'small', count: 2 };

test('the order of which the smallest part waits comes first', () => {
  const turns = new WarmTurns([LARGE, SMALL]);
  const waiting = new Map([
    [LARGE, 0],
    [SMALL, 0],
  ]);
  const made: string[] = [];
  for (let ms = 0; ms < 12; ms++) {
    const wanted = turns
      .open(ms)
      .map((order) => ({ order, waiting: waiting.get(order) ?? 0 }))
      .filter((each) => each.waiting < each.order.count);
    const turn = turns.fairest(wanted);
    assert.ok(turn !== undefined);
    waiting.set(turn.order, turn.waiting + 1);
    turns.succeeded(turn.order, ms);
    made.push(turn.order.templateId);
  }
  assert.deepEqual([waiting.get(LARGE), waiting.get(SMALL)], [10, 2]);
  // By halves, not one behind the other: the small one's first comes second, its other one in the middle.
  assert.equal(made.indexOf('small'), 1);
  assert.equal(made.lastIndexOf('small'), 6);
});

test('of two of which an equal part waits, the one that got none for longest comes first', () => {
  const other = { templateId: 'other', count: 2 };
  const turns = new WarmTurns([SMALL, other]);
  const none = [SMALL, other].map((order) => ({ order, waiting: 0 }));
  assert.equal(turns.fairest(none)?.order, SMALL);
  turns.succeeded(SMALL, 5);
  // Somebody took it at once.
  assert.equal(turns.fairest(none)?.order, other);
});

test('an order that fails is put off, twice as long each time up to a minute, and the others are not', () => {
  const turns = new WarmTurns([LARGE, SMALL]);
  let nowMs = 100;
  const pauses: number[] = [];
  const firsts: boolean[] = [];
  for (let failure = 0; failure < 8; failure++) {
    const { isFirst, retryMs } = turns.failed(LARGE, nowMs);
    pauses.push(retryMs);
    firsts.push(isFirst);
    assert.deepEqual(turns.open(nowMs + retryMs - 1), [SMALL]);
    assert.equal(turns.putOffMs(nowMs), retryMs);
    nowMs += retryMs;
    assert.deepEqual(turns.open(nowMs), [LARGE, SMALL]);
  }
  assert.deepEqual(pauses, [2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 60_000]);
  assert.deepEqual(firsts, [true, ...Array(7).fill(false)]);
  assert.equal(turns.putOffMs(nowMs), undefined);
});

test('a success ends a row of failures', () => {
  const turns = new WarmTurns([SMALL]);
  turns.failed(SMALL, 0);
  turns.failed(SMALL, 2000);
  assert.equal(turns.succeeded(SMALL, 6000), true);
  assert.equal(turns.succeeded(SMALL, 6001), false);
  assert.deepEqual(turns.failed(SMALL, 7000), { isFirst: true, retryMs: 2000 });
});

test('an order of none is no order', () => {
  assert.equal(new WarmTurns([{ templateId: 'base', count: 0 }]).isEmpty, true);
  assert.deepEqual(new WarmTurns([{ templateId: 'base', count: 0 }]).open(0), []);
});
