import assert from 'node:assert/strict';
import { test } from 'node:test';
import { errorAnswer, runAgainstStub } from '../testing/run-against-stub.ts';

const TRACE = 'GET /sandboxes/i1/trace';
const operation = (name: string, second: number) => ({
  name,
  startedAt: `2026-01-01T00:00:0${second}Z`,
  stages: [
    { name: 'network', startMs: 0, durationMs: 30 },
    { name: 'start', startMs: 10, durationMs: 90 },
  ],
});
const routes = {
  [TRACE]: { body: { operations: [1, 4, 2, 3].map((second) => operation(`op${second}`, second)) } },
};

test('the newest operations are drawn, as wide as 80 columns where there is no terminal', async (t) => {
  const shown = await runAgainstStub(t, routes, ['trace', 'i1']);
  assert.deepEqual([shown.exitCode, shown.stderr], [0, '']);
  const blocks = shown.stdout.trimEnd().split('\n\n');
  assert.deepEqual(
    blocks.map((block) => block.slice(0, 3)),
    ['op4', 'op3', 'op2'],
  );
  const bar = (from: number, length: number) => ' '.repeat(from) + '█'.repeat(length);
  assert.deepEqual(blocks[0]?.split('\n').slice(1), [
    `  total     100 ms  ${bar(0, 60)}`,
    `  network  30.0 ms  ${bar(0, 18)}`,
    `  start    90.0 ms  ${bar(6, 54)}`,
  ]);
});

test('how many can be chosen, and JSON has them too', async (t) => {
  const asJson = await runAgainstStub(t, routes, ['trace', 'i1', '--last', '1', '--json']);
  assert.deepEqual(JSON.parse(asJson.stdout), { operations: [operation('op4', 4)] });
  const refused = await runAgainstStub(t, routes, ['trace', 'i1', '--last', '0']);
  assert.equal(refused.exitCode, 2);
});

test('none, and a sandbox that is not there, are told', async (t) => {
  const none = await runAgainstStub(t, { [TRACE]: { body: { operations: [] } } }, ['trace', 'i1']);
  assert.deepEqual([none.exitCode, none.stdout], [0, 'No operation of i1 is remembered.\n']);
  const missing = { [TRACE]: errorAnswer(404, 'sandbox_not_found', 'There is no sandbox "i1".') };
  const failed = await runAgainstStub(t, missing, ['trace', 'i1']);
  assert.deepEqual([failed.exitCode, failed.stderr], [1, 'nestbox: There is no sandbox "i1". [sandbox_not_found]\n']);
});
