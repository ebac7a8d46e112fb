import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { GetSandboxLogsResponse_LogLineSchema, LogLevel } from '@nestbox/contract/host';
import { sandboxLogsBody, sandboxLogsV2Body, sandboxMetricBody } from '@nestbox/contract/http';
import { z } from 'zod';
import { createSandbox, readError } from './testing/api-answers.ts';
import { HostDouble } from './testing/host-double.ts';
import { startTestServer } from './testing/start-test-server.ts';

const line = create(GetSandboxLogsResponse_LogLineSchema, {
  timeMs: 1_700_000_000_000n,
  level: LogLevel.WARN,
  message: 'careful',
  fields: { logger: 'process', pid: '7' },
});
const entry = {
  timestamp: '2023-11-14T22:13:20.000Z',
  level: 'warn',
  message: 'careful',
  fields: { logger: 'process', pid: '7' },
};

describe('the log of a sandbox', () => {
  test('is told in both forms, as the host keeps it', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const id = await createSandbox(server);
    host.logLines.push(line);
    const second = await server.api(`/v2/sandboxes/${id}/logs`);
    assert.deepEqual(sandboxLogsV2Body.parse(await second.json()), { logs: [entry] });
    const first = sandboxLogsBody.parse(await (await server.api(`/sandboxes/${id}/logs?start=5`)).json());
    assert.deepEqual(first.logEntries, [entry]);
    assert.deepEqual(JSON.parse(first.logs[0]?.line ?? ''), {
      logger: 'process',
      pid: '7',
      timestamp: entry.timestamp,
      level: 'warn',
      message: 'careful',
    });
    assert.equal(host.logRequests[1]?.cursorMs, 5n);
  });

  test('is filtered by the host, which hears the whole question', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const id = await createSandbox(server);
    await server.api(`/v2/sandboxes/${id}/logs?cursor=9&limit=3&direction=backward&level=error&search=a%20b`);
    const [asked] = host.logRequests;
    assert.deepEqual(
      [asked?.cursorMs, asked?.limit, asked?.backward, asked?.minLevel, asked?.search],
      [9n, 3, true, LogLevel.ERROR, 'a b'],
    );
    for (const query of [
      'limit=1001',
      'limit=-1',
      'level=loud',
      'direction=up',
      'cursor=x',
      `search=${'a'.repeat(257)}`,
    ])
      assert.equal((await readError(await server.api(`/v2/sandboxes/${id}/logs?${query}`))).status, 400, query);
    assert.equal(host.logRequests.length, 1);
  });

  test('is there when the sandbox has ended, however it did, and of an unknown one there is none', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    host.logLines.push(line);
    const killed = await createSandbox(server);
    const died = await createSandbox(server);
    assert.equal((await server.api(`/sandboxes/${killed}`, { method: 'DELETE' })).status, 204);
    host.lose(died);
    while ((await server.api(`/sandboxes/${died}`)).status !== 404);
    for (const id of [killed, died]) {
      assert.equal((await server.api(`/v2/sandboxes/${id}/logs`)).status, 200);
      assert.equal((await server.api(`/sandboxes/${id}/metrics`)).status, 200);
    }
    for (const path of ['/v2/sandboxes/inobody/logs', '/sandboxes/inobody/logs', '/sandboxes/inobody/metrics'])
      assert.deepEqual((await readError(await server.api(path))).code, 'sandbox_not_found');
  });
});

test('the history of a sandbox is what the host kept between the bounds', async () => {
  await using host = await new HostDouble().open();
  await using server = await startTestServer([host]);
  const id = await createSandbox(server);
  host.sampleTimesMs = () => [10_000, 20_500, 30_999, 31_000];
  const times = async (query: string) =>
    z
      .array(sandboxMetricBody)
      .parse(await (await server.api(`/sandboxes/${id}/metrics${query}`)).json())
      .map(({ timestampUnix }) => timestampUnix);
  assert.deepEqual(await times(''), [10, 20, 30, 31]);
  assert.deepEqual(await times('?start=20&end=30'), [20, 30]);
  assert.deepEqual(await times('?start=31'), [31]);
  assert.deepEqual(await times('?start=9007199254740991'), []);
});
