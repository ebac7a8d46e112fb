import assert from 'node:assert/strict';
import { test } from 'node:test';
import { resolvePaths } from './paths.ts';

test('an empty NESTBOX_DIR is none, not the current folder', () => {
  assert.equal(resolvePaths({ NESTBOX_DIR: '' }).stateDir, '/var/lib/nestbox');
  assert.deepEqual(resolvePaths({ NESTBOX_DIR: '' }), resolvePaths({}));
});
