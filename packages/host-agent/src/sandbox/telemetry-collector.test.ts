import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NestboxError } from '@nestbox/contract';
import { createMetrics } from '@nestbox/kit/metrics';
import { makeTestHost, testSpec } from '../testing/test-host.ts';

const query = { limit: 1000, backward: false };
const everything = { startMs: 0, endMs: Number.MAX_SAFE_INTEGER, maxPoints: 1000 };

test('a log tells what the guest, its console and the host say, once each, over restarts and after the end', async (t) => {
  const testHost = await makeTestHost(t);
  const first = await testHost.start();
  const { sandboxId } = testSpec();
  await first.manager.create(testSpec({ sandboxId }));
  const lines = async (host: typeof first) => (await host.manager.logs(sandboxId, query)).map(({ message }) => message);
  const told = await lines(first);
  for (const wanted of ['the guest says this once', 'Sandbox started', 'agent: POST /init'])
    assert.equal(told.filter((message) => message === wanted).length, 1, `${wanted} in ${told}`);
  assert.deepEqual(await lines(first), told, 'reading takes nothing away');
  assert.equal((await first.manager.latestMetrics([sandboxId])).get(sandboxId)?.cpuUsedPct, 12.5);
  await first.stop();

  const second = await testHost.start();
  const later = await lines(second);
  assert.deepEqual(later.slice(0, told.length), told);
  assert.equal(later.filter((message) => message === 'the guest says this once').length, 1);
  await second.manager.pause(sandboxId, { memory: true });
  const samples = await second.manager.metricHistory(sandboxId, everything);
  assert.ok(samples.length >= 1);
  assert.deepEqual(await second.manager.metricHistory(sandboxId, everything), samples, 'nobody asks a paused guest');
  assert.equal((await second.manager.latestMetrics([sandboxId])).size, 0);
  assert.ok((await lines(second)).includes('Sandbox paused with its memory'));
  await second.manager.destroy(sandboxId);
  assert.match((await lines(second)).at(-1) ?? '', /Sandbox ended: It was destroyed/);
  assert.equal((await second.manager.metricHistory(sandboxId, everything)).length, samples.length);
});

test('a sandbox that nobody knows has no log', async (t) => {
  const testHost = await makeTestHost(t);
  const { manager } = await testHost.start();
  for (const asking of [manager.logs('inobody', query), manager.metricHistory('inobody', everything)])
    await assert.rejects(asking, (error) => error instanceof NestboxError && error.code === 'sandbox_not_found');
});

test('Prometheus is told what the host has', async (t) => {
  const testHost = await makeTestHost(t);
  const metrics = createMetrics();
  const { manager } = await testHost.start({ metrics });
  await manager.create(testSpec());
  const text = await metrics.metrics();
  for (const line of [
    /^nestbox_host_sandboxes\{state="running"\} 1$/m,
    /^nestbox_host_guest_memory_bytes 536870912$/m,
    /^nestbox_host_boot_retries 0$/m,
    /^nestbox_host_disk_bytes\{kind="free"\} [1-9]/m,
  ])
    assert.match(text, line);
});
