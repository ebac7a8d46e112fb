import assert from 'node:assert/strict';
import { test } from 'node:test';
import { errorAnswer, runAgainstStub } from '../testing/run-against-stub.ts';

const LOGS = 'GET /v2/sandboxes/i1/logs';
const entry = (second: number, message: string, fields: Record<string, string> = {}) => ({
  timestamp: `2026-01-01T00:00:0${second}.000Z`,
  level: 'info',
  message,
  fields,
});

test('the newest lines come oldest first, for people or as JSON', async (t) => {
  const newestFirst = [entry(2, 'two\u001b[31m'), entry(1, 'one', { logger: 'process', pid: '1', command: 'a b' })];
  const routes = { [LOGS]: { body: { logs: newestFirst } } };
  const shown = await runAgainstStub(t, routes, ['sandbox', 'logs', 'i1']);
  assert.deepEqual(
    [shown.exitCode, shown.stdout],
    [0, '2026-01-01T00:00:01.000Z info  process one command="a b"\n2026-01-01T00:00:02.000Z info  -       two [31m\n'],
  );
  const asJson = await runAgainstStub(t, routes, ['sandbox', 'logs', 'i1', '--json']);
  assert.deepEqual(
    asJson.stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line)),
    newestFirst.toReversed(),
  );
});

test('following ends with the sandbox, after its last lines', async (t) => {
  const routes = {
    [LOGS]: { body: { logs: [entry(1, 'line')] } },
    'GET /sandboxes/i1': errorAnswer(404, 'sandbox_not_found', 'There is no sandbox "i1".'),
  };
  const followed = await runAgainstStub(t, routes, ['sandbox', 'logs', '-f', 'i1']);
  assert.deepEqual([followed.exitCode, followed.stdout.split('\n').length], [0, 3]);
});

test('samples are a table', async (t) => {
  const sample = {
    timestamp: '2026-01-01T00:00:00.000Z',
    timestampUnix: 1,
    cpuCount: 2,
    cpuUsedPct: 12.345,
    memUsed: 1048576,
    memTotal: 2097152,
    memCache: 0,
    diskUsed: 1048576,
    diskTotal: 4194304,
  };
  const shown = await runAgainstStub(t, { 'GET /sandboxes/i1/metrics': { body: [sample] } }, [
    'sandbox',
    'metrics',
    'i1',
  ]);
  assert.equal(shown.exitCode, 0, shown.stderr);
  assert.match(shown.stdout, /12\.3 % of 2/);
});
