import assert from 'node:assert/strict';
import { test } from 'node:test';
import { WarmIds } from './warm-ids.ts';

test('an id of a VM that waits is given out once', () => {
  const ids = new WarmIds();
  assert.equal(ids.take([]), undefined);
  assert.equal(ids.take(['a', 'b']), 'a');
  assert.equal(ids.take(['a', 'b']), 'b');
  assert.equal(ids.take(['a', 'b']), undefined);
  assert.equal(ids.take(['a', 'c']), 'c');
});
