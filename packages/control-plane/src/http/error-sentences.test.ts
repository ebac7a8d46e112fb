import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createSandbox, readError } from '../testing/api-answers.ts';
import { HostDouble } from '../testing/host-double.ts';
import { startTestServer } from '../testing/start-test-server.ts';

test('what is missing is told as missing, and what is wrong within a name or an alternative by itself', async () => {
  await using host = await new HostDouble().open();
  await using server = await startTestServer([host]);
  const id = await createSandbox(server);
  for (const [method, path, body, message] of [
    ['POST', '/sandboxes', undefined, 'The body is missing: expected object.'],
    ['POST', '/sandboxes', {}, 'The field "templateID" is missing: expected string.'],
    ['POST', `/sandboxes/${id}/timeout`, {}, 'The field "timeout" is missing: expected number.'],
    ['POST', `/sandboxes/${id}/connect`, [], 'The body is wrong: expected object, received array.'],
    [
      'POST',
      '/sandboxes',
      { templateID: 'base', envVars: { 'A=B': 'x' } },
      'The field "envVars.A=B" is wrong: its name: must not contain "=".',
    ],
    ['GET', '/sandboxes/metrics', undefined, 'The query parameter "sandbox_ids" is missing: expected string.'],
  ] as const) {
    const headers = { 'Content-Type': 'application/json' };
    const sent = body === undefined ? {} : { body: JSON.stringify(body), headers };
    assert.equal((await readError(await server.api(path, { method, ...sent }))).message, message);
  }
});
