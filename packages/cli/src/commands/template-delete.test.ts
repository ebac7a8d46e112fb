import assert from 'node:assert/strict';
import { test } from 'node:test';
import { errorAnswer, runAgainstStub } from '../testing/run-against-stub.ts';

const template = (templateID: string, names: string[], damage?: string) => ({
  templateID,
  buildID: '01234567-89ab-8def-8123-456789abcdef',
  cpuCount: 1,
  memoryMB: 512,
  diskSizeMB: 1024,
  public: false,
  aliases: names,
  names,
  createdAt: '2026-01-01T00:00:00.000Z',
  updatedAt: '2026-01-01T00:00:00.000Z',
  createdBy: null,
  lastSpawnedAt: null,
  spawnCount: 0,
  buildCount: 1,
  envdVersion: '0.6.0',
  ...(damage === undefined ? { buildStatus: 'ready' } : { buildStatus: 'error', damage }),
});
const LIST = { 'GET /templates': { body: [template('t1', ['base'], 'its disk is cut'), template('t2', ['other'])] } };

test('the list says which templates are damaged, and why', async (t) => {
  const shown = await runAgainstStub(t, LIST, ['template', 'list']);
  assert.equal(shown.exitCode, 0);
  assert.match(shown.stdout, /^NAMES .*\nbase .*\nother .*\n\nDamaged:\nt1: its disk is cut\n$/);
});

test('a damaged template is deleted by id or name, once', async (t) => {
  const routes = { ...LIST, 'DELETE /templates/t1': { status: 204 } };
  const asText = await runAgainstStub(t, routes, ['template', 'delete', 'base', 't1']);
  assert.deepEqual([asText.exitCode, asText.stdout, asText.stderr], [0, 't1\n', '']);
  const asJson = await runAgainstStub(t, routes, ['template', 'delete', 't1', '--json']);
  assert.deepEqual(JSON.parse(asJson.stdout), { deleted: ['t1'] });
});

test('one that is whole, or not there, is refused in the words of whoever knows', async (t) => {
  const routes = { ...LIST, 'DELETE /templates/t2': errorAnswer(409, 'conflict', 'It is whole.') };
  const whole = await runAgainstStub(t, routes, ['template', 'delete', 'other']);
  assert.deepEqual([whole.exitCode, whole.stdout], [1, '']);
  assert.match(whole.stderr, /It is whole\. \[conflict\]/);
  const none = await runAgainstStub(t, routes, ['template', 'delete', 'base', 'nothing']);
  assert.match(none.stderr, /There is no template "nothing".*\[template_not_found\]/);
  assert.equal(none.seen.length, 1, 'nothing was deleted');
});
