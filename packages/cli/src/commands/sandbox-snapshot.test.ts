import assert from 'node:assert/strict';
import { test } from 'node:test';
import { errorAnswer, runAgainstStub } from '../testing/run-against-stub.ts';

const SNAPSHOT = 'POST /sandboxes/i1/snapshots';

test('a snapshot is made, with a name or without, and its id printed', async (t) => {
  const routes = { [SNAPSHOT]: { status: 201, body: { snapshotID: 'mine:default', names: ['mine'] } } };
  const named = await runAgainstStub(t, routes, ['sandbox', 'snapshot', 'i1', '--name', 'mine']);
  assert.deepEqual([named.exitCode, named.stdout, named.stderr], [0, 'mine:default\n', '']);
  assert.deepEqual(named.seen[0]?.json, { name: 'mine' });
  const nameless = await runAgainstStub(t, routes, ['sandbox', 'snapshot', 'i1', '--json']);
  assert.deepEqual(JSON.parse(nameless.stdout), { snapshotID: 'mine:default', names: ['mine'] });
  assert.deepEqual(nameless.seen[0]?.json, {});
});

test('a host that keeps as many as it may is told', async (t) => {
  const routes = { [SNAPSHOT]: errorAnswer(507, 'snapshot_limit', 'This host keeps 5 snapshots, the most it may.') };
  const refused = await runAgainstStub(t, routes, ['sandbox', 'snapshot', 'i1']);
  assert.deepEqual([refused.exitCode, refused.stdout], [1, '']);
  assert.match(refused.stderr, /the most it may\. \[snapshot_limit\]\n$/);
});
