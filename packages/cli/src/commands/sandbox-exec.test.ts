import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runAgainstStub } from '../testing/run-against-stub.ts';
import { SANDBOX_DETAIL } from '../testing/wire-samples.ts';

test('an option behind the id is refused, not taken for the command', async (t) => {
  const { exitCode, stdout, stderr } = await runAgainstStub(t, {}, [
    'sandbox',
    'exec',
    'i1',
    '--timeout',
    '5',
    '--',
    'ls',
  ]);
  assert.deepEqual([exitCode, stdout], [2, '']);
  assert.match(stderr, /"--timeout" stands behind the sandbox's id.*\[usage\]\n$/);
});

test('exec and shell in a paused sandbox fail as Nestbox, not as the command, and say what to do', async (t) => {
  const routes = { 'GET /sandboxes/i1': { body: { ...SANDBOX_DETAIL, state: 'paused' } } };
  for (const words of [
    ['exec', 'i1', '--', 'ls'],
    ['shell', 'i1'],
  ]) {
    const { exitCode, stdout, stderr } = await runAgainstStub(t, routes, ['sandbox', ...words]);
    assert.deepEqual([exitCode, stdout], [125, '']);
    assert.match(stderr, /nestbox sandbox resume i1 .*\[sandbox_paused\]\n$/);
  }
});
