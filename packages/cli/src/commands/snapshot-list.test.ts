import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runAgainstStub } from '../testing/run-against-stub.ts';

test('snapshots of all pages are shown', async (t) => {
  const routes = {
    'GET /snapshots': ({ query }: { query: URLSearchParams }) =>
      query.get('nextToken') === null
        ? { body: [{ snapshotID: 'abc:default', names: [] }], headers: { 'X-Next-Token': '2' } }
        : { body: [{ snapshotID: 'mine:default', names: ['mine', 'mine:v1'] }] },
  };
  const words = ['snapshot', 'list', '--sandbox', 'i1', '--name', 'mine'];
  const listed = await runAgainstStub(t, routes, words);
  assert.deepEqual([listed.exitCode, listed.stderr], [0, '']);
  assert.equal(listed.stdout, 'SNAPSHOT      NAMES\nabc:default   -\nmine:default  mine, mine:v1\n');
  assert.deepEqual([listed.seen[0]?.query.get('sandboxID'), listed.seen[0]?.query.get('name')], ['i1', 'mine']);
  const asJson = await runAgainstStub(t, routes, ['snapshot', 'list', '--json']);
  assert.equal(JSON.parse(asJson.stdout).length, 2);
});

test('none is said to be none', async (t) => {
  const none = await runAgainstStub(t, { 'GET /snapshots': { body: [] } }, ['snapshot', 'list']);
  assert.deepEqual([none.exitCode, none.stdout], [0, 'No snapshots.\n']);
});

test('what is damaged is said under the list, and why', async (t) => {
  const body = [{ snapshotID: 'abc:default', names: [], damage: 'its memory is cut' }];
  const shown = await runAgainstStub(t, { 'GET /snapshots': { body } }, ['snapshot', 'list']);
  assert.equal(shown.stdout, 'SNAPSHOT     NAMES\nabc:default  -\n\nDamaged:\nabc:default: its memory is cut\n');
});
