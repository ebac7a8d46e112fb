import assert from 'node:assert/strict';
import { test } from 'node:test';
import { collectGarbage } from './collect-garbage.ts';

test('what nobody holds any more is gone afterwards, also the second time', async () => {
  for (let round = 0; round < 2; round++) {
    let held: object | undefined = { big: new Array(1000).fill(round) };
    const reference = new WeakRef(held);
    held = undefined;
    // A WeakRef keeps what it was made for until the turn has ended.
    await new Promise((resolve) => setImmediate(resolve));
    collectGarbage();
    assert.equal(reference.deref(), undefined);
  }
});
