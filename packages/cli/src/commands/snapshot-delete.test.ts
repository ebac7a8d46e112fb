import assert from 'node:assert/strict';
import { test } from 'node:test';
import { errorAnswer, runAgainstStub } from '../testing/run-against-stub.ts';

const LIST = {
  'GET /snapshots': {
    body: [
      { snapshotID: 'abc:default', names: [] },
      { snapshotID: 'ns/mine:default', names: ['ns/mine'] },
    ],
  },
};
const routesOf = (seen: readonly { route: string }[]) => seen.map(({ route }) => route).slice(1);

test('snapshots are deleted by id and by name, each once', async (t) => {
  const routes = {
    ...LIST,
    'DELETE /templates/abc%3Adefault': { status: 204 },
    'DELETE /templates/ns%2Fmine%3Adefault': { status: 204 },
  };
  const asText = await runAgainstStub(t, routes, ['snapshot', 'delete', 'abc', 'ns/mine', 'abc:default']);
  assert.deepEqual([asText.exitCode, asText.stdout, asText.stderr], [0, 'abc:default\nns/mine:default\n', '']);
  assert.equal(routesOf(asText.seen).length, 2);
  const asJson = await runAgainstStub(t, routes, ['snapshot', 'delete', 'abc', '--json']);
  assert.deepEqual(JSON.parse(asJson.stdout), { deleted: ['abc:default'] });
});

test('a word that names no snapshot, but perhaps a template, deletes nothing at all', async (t) => {
  const refused = await runAgainstStub(t, LIST, ['snapshot', 'delete', 'abc', 'base']);
  assert.deepEqual([refused.exitCode, refused.stdout, routesOf(refused.seen)], [1, '', []]);
  assert.match(refused.stderr, /no snapshot "base".*\[template_not_found\]\n$/);
});

test('those that could be deleted are told beside the one that could not', async (t) => {
  const routes = {
    ...LIST,
    'DELETE /templates/abc%3Adefault': errorAnswer(409, 'conflict', 'It is in use.'),
    'DELETE /templates/ns%2Fmine%3Adefault': { status: 204 },
  };
  const partly = await runAgainstStub(t, routes, ['snapshot', 'delete', 'abc', 'ns/mine']);
  assert.deepEqual(
    [partly.exitCode, partly.stdout, partly.stderr],
    [1, 'ns/mine:default\n', 'nestbox: It is in use. [conflict]\n'],
  );
});
