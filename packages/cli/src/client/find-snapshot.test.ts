import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findSnapshot } from './find-snapshot.ts';

const SNAPSHOTS = [
  { snapshotID: 'abc:default', names: ['def:default'] },
  { snapshotID: 'def:default', names: [] },
  { snapshotID: 'mine:v2', names: ['mine:v2', 'other:default'] },
];
const find = (word: string) => findSnapshot(SNAPSHOTS, word).snapshotID;

test('ids come before names, and the tag "default" goes without saying', () => {
  assert.equal(find('def'), 'def:default');
  assert.equal(find(' ABC:default '), 'abc:default');
  assert.equal(find('other'), 'mine:v2');
});

test('another tag must be said, and what names nothing is refused', () => {
  assert.equal(find('mine:v2'), 'mine:v2');
  for (const word of ['mine', 'base', '', ':default']) assert.throws(() => find(word), { code: 'template_not_found' });
});
