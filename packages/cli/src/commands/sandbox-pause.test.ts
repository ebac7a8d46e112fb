import assert from 'node:assert/strict';
import { test } from 'node:test';
import { errorAnswer, runAgainstStub } from '../testing/run-against-stub.ts';

const PAUSE = 'POST /sandboxes/i1/pause';

test('a sandbox is paused with its memory, or without it', async (t) => {
  const routes = { [PAUSE]: { status: 204 } };
  const whole = await runAgainstStub(t, routes, ['sandbox', 'pause', 'i1']);
  assert.deepEqual([whole.exitCode, whole.stdout, whole.stderr], [0, 'i1\n', '']);
  assert.deepEqual(whole.seen[0]?.json, { memory: true });
  const disk = await runAgainstStub(t, routes, ['sandbox', 'pause', '--no-memory', '--json', 'i1']);
  assert.deepEqual(JSON.parse(disk.stdout), { paused: 'i1', memory: false });
  assert.deepEqual(disk.seen[0]?.json, { memory: false });
});

test("a refusal is told in the server's words", async (t) => {
  const routes = { [PAUSE]: errorAnswer(409, 'sandbox_paused', 'The sandbox i1 is paused already.') };
  const refused = await runAgainstStub(t, routes, ['sandbox', 'pause', 'i1']);
  assert.deepEqual(
    [refused.exitCode, refused.stdout, refused.stderr],
    [1, '', 'nestbox: The sandbox i1 is paused already. [sandbox_paused]\n'],
  );
});
