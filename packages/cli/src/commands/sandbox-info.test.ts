import assert from 'node:assert/strict';
import { test } from 'node:test';
import { errorAnswer, runAgainstStub } from '../testing/run-against-stub.ts';
import { SANDBOX_DETAIL } from '../testing/wire-samples.ts';

const ACTIVITY = { lastActivityAt: '2026-01-01T00:01:00Z', runningCommands: 1, openConnections: 2 };

test('state, lifecycle and the last activity are shown, and no secret', async (t) => {
  const routes = {
    'GET /sandboxes/i1': { body: { ...SANDBOX_DETAIL, lifecycle: { autoResume: false, onTimeout: 'pause' } } },
    'GET /sandboxes/i1/activity': { body: ACTIVITY },
  };
  const shown = await runAgainstStub(t, routes, ['sandbox', 'info', 'i1']);
  assert.equal(shown.exitCode, 0);
  assert.match(
    shown.stdout,
    /\nstate +running\nlifecycle +is paused at its time-out\nlastActivity +2026-01-01T00:01:00Z/,
  );
  assert.doesNotMatch(shown.stdout, /secret/);
  const asJson = JSON.parse((await runAgainstStub(t, routes, ['sandbox', 'info', 'i1', '--json'])).stdout);
  assert.deepEqual(asJson.activity, ACTIVITY);
  assert.equal(asJson.envdAccessToken, undefined);
});

test('an activity that the server cannot tell now is left out', async (t) => {
  const routes = {
    'GET /sandboxes/i1': { body: { ...SANDBOX_DETAIL, state: 'paused' } },
    'GET /sandboxes/i1/activity': errorAnswer(409, 'sandbox_paused', 'The sandbox i1 is paused.'),
  };
  const shown = await runAgainstStub(t, routes, ['sandbox', 'info', 'i1']);
  assert.deepEqual([shown.exitCode, shown.stderr], [0, '']);
  assert.match(shown.stdout, /\nstate +paused\n/);
  assert.doesNotMatch(shown.stdout, /lastActivity|endAt/);
  const asJson = await runAgainstStub(t, routes, ['sandbox', 'info', 'i1', '--json']);
  assert.equal(JSON.parse(asJson.stdout).activity, null);
});

test('a sandbox that is not there is told', async (t) => {
  const routes = { 'GET /sandboxes/i1': errorAnswer(404, 'sandbox_not_found', 'There is no sandbox "i1".') };
  const failed = await runAgainstStub(t, routes, ['sandbox', 'info', 'i1']);
  assert.deepEqual([failed.exitCode, failed.stderr], [1, 'nestbox: There is no sandbox "i1". [sandbox_not_found]\n']);
});
