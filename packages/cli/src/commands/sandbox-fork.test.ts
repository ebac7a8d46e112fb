import assert from 'node:assert/strict';
import { test } from 'node:test';
import { errorAnswer, runAgainstStub } from '../testing/run-against-stub.ts';
import { SANDBOX } from '../testing/wire-samples.ts';

const FORK = 'POST /sandboxes/i1/fork';
const copy = (sandboxID: string) => ({ sandbox: { ...SANDBOX, sandboxID } });
const failure = { error: errorAnswer(503, 'host_capacity', 'This host is full.').body };

test('the copies are shown in a table', async (t) => {
  const routes = { [FORK]: { status: 201, body: [copy('i2'), copy('i3')] } };
  const words = ['sandbox', 'fork', 'i1', '--count', '2', '--timeout', '60'];
  const forked = await runAgainstStub(t, routes, words);
  assert.deepEqual([forked.exitCode, forked.stderr], [0, '']);
  assert.equal(forked.stdout, 'COPY  SANDBOX  STATE\n1     i2       running\n2     i3       running\n');
  assert.deepEqual(forked.seen[0]?.json, { count: 2, timeout: 60 });
});

test('copies that failed are told, each reason once, and the exit code is not 0', async (t) => {
  const routes = { [FORK]: { status: 201, body: [failure, copy('i2'), failure] } };
  const asText = await runAgainstStub(t, routes, ['sandbox', 'fork', 'i1', '--count', '3']);
  assert.equal(asText.exitCode, 1);
  assert.deepEqual(asText.stdout.split('\n').slice(1, 4), [
    '1     -        failed [host_capacity]',
    '2     i2       running',
    '3     -        failed [host_capacity]',
  ]);
  assert.equal(asText.stderr, 'nestbox: 2 of 3 copies could not be made: This host is full. [host_capacity]\n');
  const asJson = await runAgainstStub(t, routes, ['sandbox', 'fork', 'i1', '--count', '3', '--json']);
  assert.equal(asJson.exitCode, 1);
  assert.deepEqual(JSON.parse(asJson.stdout)[0], failure);
  assert.equal(JSON.parse(asJson.stderr).error.code, 'host_capacity');
});

test('a number of copies that the wire does not know is refused before anything is asked', async (t) => {
  for (const count of ['0', '101', 'two']) {
    const refused = await runAgainstStub(t, {}, ['sandbox', 'fork', 'i1', '--count', count]);
    assert.deepEqual([refused.exitCode, refused.seen.length], [2, 0]);
    assert.match(refused.stderr, /from 1 to 100\. \[usage\]\n$/);
  }
});
