import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createLogger } from '@nestbox/kit';
import { hasWrongRate, keepClock, nextInterval } from './keep-clock.ts';

const MINUTE = 60_000;

test('a clock that strays is looked at more often, one that does not less often, within limits', () => {
  assert.equal(nextInterval(30_000, 4.9), 60_000);
  assert.equal(nextInterval(30_000, -4.9), 60_000);
  assert.equal(nextInterval(60_000, 5), 30_000);
  assert.equal(nextInterval(60_000, -500), 30_000);
  let intervalMs = 30_000;
  for (let looks = 0; looks < 10; looks++) intervalMs = nextInterval(intervalMs, 0);
  assert.equal(intervalMs, 2 * MINUTE);
  for (let looks = 0; looks < 10; looks++) intervalMs = nextInterval(intervalMs, 100);
  assert.equal(intervalMs, 15_000);
});

test('a rate is wrong when a clock strays further than any comparison can be wrong by', () => {
  assert.equal(hasWrongRate(1500, 120, 5), true);
  assert.equal(hasWrongRate(1500, -120, 5), true);
  assert.equal(hasWrongRate(1500, 27, 5), false);
  assert.equal(hasWrongRate(1500, 120, 300), false, 'a guest that answers late');
  assert.equal(hasWrongRate(2 * MINUTE, 200, 5), false, 'a crystal');
  assert.equal(hasWrongRate(2 * MINUTE, 300, 5), true);
});

test('a guest that strays twice in a row reads the time otherwise, and one that did so once does not', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const clock = { foundMs: 0, looks: 0, left: 0 };
  const guest = {
    async syncClock() {
      clock.looks += 1;
      return { foundMs: clock.foundMs, offsetMs: 0, roundTripMs: 2 };
    },
    async leaveProcessorCounter() {
      clock.left += 1;
    },
  };
  const pass = async (ms: number) => {
    t.mock.timers.tick(ms);
    for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
    return clock;
  };
  const stop = keepClock(guest, createLogger({ level: 'silent' }));
  clock.foundMs = 400;
  assert.deepEqual({ ...(await pass(1500)) }, { foundMs: 400, looks: 1, left: 0 });
  clock.foundMs = 1;
  assert.deepEqual({ ...(await pass(1500)) }, { foundMs: 1, looks: 2, left: 0 }, 'it is looked at again soon');
  assert.equal((await pass(1500)).looks, 2, 'and then as before');
  clock.foundMs = 400;
  await pass(MINUTE);
  assert.equal(clock.left, 0);
  await pass(1500);
  assert.equal(clock.left, 1);
  const { looks } = clock;
  stop();
  assert.equal((await pass(10 * MINUTE)).looks, looks);
});
