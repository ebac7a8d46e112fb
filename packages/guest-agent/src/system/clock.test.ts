import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { stepRequest, WallClock } from './clock.ts';

// Setting a clock is tried in a VM (host-agent/src/guest/restore.vm.test.ts): this machine's is not ours.

test('the wall clock is the one that Node shows', () => {
  const before = Date.now();
  const shownMs = Number(new WallClock().nowNs() / 1_000_000n);
  assert.ok(shownMs >= before && shownMs <= Date.now(), `${shownMs} is not ${before}`);
});

test('a step is told to the kernel in seconds and microseconds that add up, the latter never negative', () => {
  assert.deepEqual([...stepRequest(-250_000_000n)].slice(0, 11), [
    0x100n,
    0n,
    0n,
    0n,
    0n,
    0n,
    0n,
    0n,
    0n,
    -1n,
    750_000n,
  ]);
  fc.assert(
    fc.property(fc.bigInt({ min: -(10n ** 18n), max: 10n ** 18n }), (offsetNs) => {
      const request = stepRequest(offsetNs);
      const [seconds = 0n, microseconds = 0n] = request.subarray(9, 11);
      assert.ok(microseconds >= 0n && microseconds < 1_000_000n);
      assert.equal(seconds * 1_000_000n + microseconds, offsetNs / 1000n);
      assert.equal(request.byteLength, 208);
    }),
  );
});
