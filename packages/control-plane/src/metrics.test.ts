import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createMetrics, serveMetrics } from '@nestbox/kit/metrics';
import { createSandbox } from './testing/api-answers.ts';
import { HostDouble } from './testing/host-double.ts';
import { startTestServer, TEST_API_KEY } from './testing/start-test-server.ts';

test('Prometheus reads sandboxes by state and requests by route, and nothing that names one', async () => {
  await using host = await new HostDouble().open();
  const metrics = createMetrics();
  await using server = await startTestServer([host], { metrics });
  const listener = await serveMetrics(metrics, { host: '127.0.0.1', port: 0 });
  try {
    const paused = await createSandbox(server);
    const running = await createSandbox(server);
    await server.send('POST', `/sandboxes/${paused}/pause`, {});
    await server.api(`/sandboxes/${running}`);
    await server.api('/no/such/path');
    const text = await (await fetch(listener.url)).text();
    for (const line of [
      'nestbox_sandboxes{state="running"} 1',
      'nestbox_sandboxes{state="paused"} 1',
      'nestbox_host_connected{host="host-1"} 1',
      'nestbox_api_request_duration_seconds_count{method="POST",route="/sandboxes",status="201"} 2',
      'nestbox_api_request_duration_seconds_count{method="GET",route="/sandboxes/:sandboxID",status="200"} 1',
      'nestbox_api_request_duration_seconds_count{method="any",route="unknown",status="404"} 1',
    ])
      assert.ok(text.includes(`${line}\n`), `${line} in ${text}`);
    for (const secret of [paused, running, TEST_API_KEY]) assert.ok(!text.includes(secret));
    assert.equal((await fetch(listener.url.replace('/metrics', '/'))).status, 404);
    assert.equal((await fetch(listener.url, { method: 'POST' })).status, 404);
  } finally {
    await listener.close();
  }
});

test('a port that somebody else has is told as such', async () => {
  const address = { host: '127.0.0.1', port: 0 };
  const first = await serveMetrics(createMetrics(), address);
  try {
    const port = Number(new URL(first.url).port);
    const expected = {
      name: 'NestboxError',
      code: 'conflict',
      message: /metrics listener .*another program has that port/,
    };
    await assert.rejects(serveMetrics(createMetrics(), { ...address, port }), expected);
  } finally {
    await first.close();
  }
});
