import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runAgainstStub } from '../testing/run-against-stub.ts';
import { SANDBOX_DETAIL } from '../testing/wire-samples.ts';

test('paused sandboxes are listed as such, without an end', async (t) => {
  const body = [SANDBOX_DETAIL, { ...SANDBOX_DETAIL, sandboxID: 'i2', state: 'paused' }];
  const { exitCode, stdout } = await runAgainstStub(t, { 'GET /v2/sandboxes': { body } }, ['sandbox', 'list']);
  assert.equal(exitCode, 0);
  const rows = stdout
    .trimEnd()
    .split('\n')
    .map((line) => line.split(/ {2,}/).slice(0, 5));
  assert.deepEqual(rows, [
    ['SANDBOX', 'TEMPLATE', 'STATE', 'STARTED', 'ENDS'],
    ['i1', 'base', 'running', '2026-01-01T00:00:00Z', '2026-01-01T00:05:00Z'],
    ['i2', 'base', 'paused', '2026-01-01T00:00:00Z', '-'],
  ]);
});
