import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { describe, test } from 'node:test';
import { ENVD_VERSION } from '@nestbox/contract';
import { AuthenticationError, Sandbox, SandboxNotFoundError, Template } from 'e2b';
import { until } from './testing/api-answers.ts';
import { HostDouble } from './testing/host-double.ts';
import { ManualClock } from './testing/manual-clock.ts';
import { startTestServer, TEST_API_KEY, TEST_SEED, type TestServer } from './testing/start-test-server.ts';

function clientOptions(server: TestServer) {
  return { apiUrl: server.apiUrl, sandboxUrl: server.edgeUrl, apiKey: TEST_API_KEY };
}

describe('the e2b client', () => {
  test('creates a sandbox with its defaults and reads it back', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const before = Date.now();
    const sandbox = await Sandbox.create({
      ...clientOptions(server),
      envs: { GREETING: 'hello' },
      metadata: { owner: 'test & more' },
    });
    const [request] = host.created;
    assert.equal(request?.sandboxId, sandbox.sandboxId);
    assert.deepEqual(request?.envVars, { GREETING: 'hello' });
    assert.equal(request?.allowInternetAccess, true);
    assert.equal(request?.accessToken, createHmac('sha256', TEST_SEED).update(sandbox.sandboxId).digest('hex'));

    const info = await sandbox.getInfo();
    assert.equal(info.sandboxId, sandbox.sandboxId);
    assert.equal(info.templateId, 'base0000000000000000');
    assert.equal(info.name, 'base');
    assert.equal(info.state, 'running');
    assert.equal(info.envdVersion, ENVD_VERSION);
    assert.equal(info.cpuCount, 2);
    assert.equal(info.memoryMB, 512);
    assert.deepEqual(info.metadata, { owner: 'test & more' });
    assert.deepEqual(info.lifecycle, { onTimeout: 'kill', autoResume: false });
    const lifeMs = info.endAt.getTime() - info.startedAt.getTime();
    assert.equal(lifeMs, 300_000);
    assert.ok(info.startedAt.getTime() >= before);
  });

  test('switches the internet off in both of its ways', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const first = await Sandbox.create({ ...clientOptions(server), allowInternetAccess: false });
    await Sandbox.create({ ...clientOptions(server), network: { denyOut: ({ allTraffic }) => [allTraffic] } });
    assert.deepEqual(
      host.created.map(({ allowInternetAccess, denyOut }) => ({ allowInternetAccess, denyOut })),
      [
        { allowInternetAccess: false, denyOut: [] },
        { allowInternetAccess: true, denyOut: ['0.0.0.0/0'] },
      ],
    );
    assert.equal((await first.getInfo()).allowInternetAccess, false);
  });

  test('lists in pages, in both orders, and by metadata of any characters', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const options = clientOptions(server);
    const strange = 'a&b=c%20 d+e/ü?#%';
    const ids: string[] = [];
    for (let i = 0; i < 5; i++) {
      const { sandboxId } = await Sandbox.create({
        ...options,
        metadata: i % 2 === 0 ? { [strange]: strange, common: 'x' } : { common: 'x' },
      });
      ids.push(sandboxId);
    }
    const readAll = async (query: Parameters<typeof Sandbox.list>[0]) => {
      const paginator = Sandbox.list({ ...options, ...query });
      const found: string[] = [];
      while (paginator.hasNext) found.push(...(await paginator.nextItems()).map(({ sandboxId }) => sandboxId));
      return found;
    };
    assert.deepEqual(new Set(await readAll({ limit: 2 })), new Set(ids));
    const ascending = await readAll({ limit: 2, order: 'asc' });
    assert.deepEqual((await readAll({ limit: 3 })).toReversed(), ascending);
    assert.deepEqual(
      new Set(await readAll({ query: { metadata: { [strange]: strange } } })),
      new Set(ids.filter((_, i) => i % 2 === 0)),
    );
    assert.deepEqual(await readAll({ query: { metadata: { [strange]: strange, common: 'y' } } }), []);
    assert.equal((await readAll({ query: { state: ['running', 'paused'], template: 'base' } })).length, 5);
    assert.deepEqual(await readAll({ query: { state: ['paused'] } }), []);
    assert.deepEqual(await readAll({ query: { startedAfter: new Date(Date.now() + 60_000) } }), []);
  });

  test('sets the time-out, shorter too, and connecting never shortens it', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const options = clientOptions(server);
    const sandbox = await Sandbox.create({ ...options, timeoutMs: 600_000 });
    const endAt = async () => (await sandbox.getInfo()).endAt.getTime();
    const created = await endAt();
    await sandbox.setTimeout(60_000);
    const shortened = await endAt();
    assert.ok(shortened < created - 500_000);
    const same = await Sandbox.connect(sandbox.sandboxId, { ...options, timeoutMs: 1000 });
    assert.equal(same.sandboxId, sandbox.sandboxId);
    assert.equal(await endAt(), shortened);
    await Sandbox.connect(sandbox.sandboxId, { ...options, timeoutMs: 3_600_000 });
    assert.ok((await endAt()) > created);
  });

  test('kills, and then finds nothing', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const options = clientOptions(server);
    const sandbox = await Sandbox.create(options);
    assert.equal(await sandbox.isRunning(), true);
    assert.equal(await sandbox.kill(), true);
    assert.equal(host.sandboxes.size, 0);
    assert.equal(await sandbox.kill(), false);
    assert.equal(await sandbox.isRunning(), false);
    await assert.rejects(sandbox.getInfo(), SandboxNotFoundError);
    await assert.rejects(sandbox.setTimeout(1000), SandboxNotFoundError);
    await assert.rejects(Sandbox.connect(sandbox.sandboxId, options), SandboxNotFoundError);
  });

  test('gets metrics, and knows templates by name', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const options = clientOptions(server);
    const sandbox = await Sandbox.create(options);
    const [metric] = await sandbox.getMetrics();
    assert.equal(metric?.cpuUsedPct, 12.5);
    assert.equal(metric?.memTotal, 200);
    assert.deepEqual(await sandbox.getMetrics({ end: new Date(1_600_000_000_000) }), []);
    assert.equal(await Template.exists('base', options), true);
    assert.equal(await Template.exists('other', options), false);
  });

  test('is told clearly what is not built, and that its key is wrong', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const options = clientOptions(server);
    const sandbox = await Sandbox.create(options);
    await assert.rejects(sandbox.updateNetwork({ egressProxy: { address: 'a:1' } }), /501: .*not supported/);
    await assert.rejects(Sandbox.create('nothing', options), /404: There is no template "nothing"/);
    const wrongKey = { ...options, apiKey: `e2b_${'0'.repeat(40)}` };
    await assert.rejects(Sandbox.create(wrongKey), AuthenticationError);
  });

  test('pauses, with and without memory, and learns when it was paused already', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const options = clientOptions(server);
    const sandbox = await Sandbox.create(options);
    assert.equal(await sandbox.pause(), true);
    assert.equal(await sandbox.pause(), false);
    assert.equal((await sandbox.getInfo()).state, 'paused');
    assert.equal(await sandbox.isRunning(), false);
    const other = await Sandbox.create(options);
    assert.equal(await Sandbox.pause(other.sandboxId, { ...options, keepMemory: false }), true);
    assert.deepEqual(
      host.snapshots.pauses.map(({ memory }) => memory),
      [true, false],
    );
    const paginator = Sandbox.list({ ...options, query: { state: ['paused'] } });
    assert.equal((await paginator.nextItems()).length, 2);
    assert.equal(await other.kill(), true);
    await assert.rejects(Sandbox.pause(other.sandboxId, options), SandboxNotFoundError);
  });

  test('connects to a paused sandbox, restoring or rebooting it', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const options = clientOptions(server);
    const sandbox = await Sandbox.create(options);
    await sandbox.pause();
    const same = await Sandbox.connect(sandbox.sandboxId, { ...options, timeoutMs: 600_000 });
    assert.equal(same.sandboxId, sandbox.sandboxId);
    assert.equal(await same.isRunning(), true);
    assert.equal(await sandbox.isRunning(), true);
    await sandbox.pause();
    await sandbox.connect({ onResume: 'reboot' });
    assert.deepEqual(
      host.snapshots.resumes.map(({ memory }) => memory),
      [true, false],
    );
    assert.equal((await sandbox.getInfo()).state, 'running');
  });

  test('asks for pausing at the end and for waking, and a request wakes the sandbox', async () => {
    const clock = new ManualClock();
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], {}, clock);
    const options = { ...clientOptions(server), timeoutMs: 20_000 };
    const sandbox = await Sandbox.create({ ...options, lifecycle: { onTimeout: 'pause', autoResume: true } });
    assert.deepEqual((await sandbox.getInfo()).lifecycle, { onTimeout: 'pause', autoResume: true });
    await clock.untilSleeping(20_000);
    clock.advance(20_000);
    await until(async () => (await sandbox.getInfo()).state === 'paused');
    assert.equal(await sandbox.isRunning(), true, 'the look itself woke it');
    assert.equal(host.snapshots.resumes.length, 1);
    const disk = await Sandbox.create({
      ...options,
      lifecycle: { onTimeout: { action: 'pause', keepMemory: false } },
    });
    assert.deepEqual((await disk.getInfo()).lifecycle, { onTimeout: 'pause', autoResume: false });
    await clock.untilSleeping(20_000);
    clock.advance(20_000);
    await until(async () => (await disk.getInfo()).state === 'paused');
    assert.deepEqual(new Set(host.snapshots.pauses.map(({ memory }) => memory)), new Set([true, false]));
  });

  test('forks, and gets an error for each copy that failed', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const options = clientOptions(server);
    const sandbox = await Sandbox.create(options);
    host.snapshots.failingCopies.set(1, { code: 'host_capacity', message: 'No memory is left.' });
    const [first, second, third] = await sandbox.fork({ count: 3, timeoutMs: 60_000 });
    assert.ok(first instanceof Sandbox);
    assert.ok(second instanceof Error);
    assert.match(second.message, /No memory is left/);
    assert.ok(third instanceof Sandbox);
    assert.notEqual(first.sandboxId, third.sandboxId);
    assert.equal(await first.isRunning(), true);
    assert.equal((await third.getInfo()).state, 'running');
    await sandbox.pause();
    await assert.rejects(sandbox.fork(), /409: .*paused/);
    await assert.rejects(Sandbox.fork('iunknown', options), SandboxNotFoundError);
  });

  test('makes snapshots, lists them, creates from them and deletes them', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const options = clientOptions(server);
    const sandbox = await Sandbox.create(options);
    const unnamed = await sandbox.createSnapshot();
    const named = await sandbox.createSnapshot({ name: 'My-Work:v2' });
    assert.deepEqual(named, { snapshotId: 'my-work:v2', names: ['my-work:v2'] });
    const paginator = sandbox.listSnapshots();
    assert.deepEqual(
      new Set((await paginator.nextItems()).map(({ snapshotId }) => snapshotId)),
      new Set([unnamed.snapshotId, named.snapshotId]),
    );
    assert.equal(paginator.hasNext, false);
    assert.deepEqual(await Sandbox.listSnapshots({ ...options, name: 'my-work' }).nextItems(), [named]);
    for (const { snapshotId } of [unnamed, named]) {
      const copy = await Sandbox.create(snapshotId, options);
      assert.equal(await copy.isRunning(), true);
      assert.equal(await Template.exists(snapshotId, options), true);
      assert.equal(await Sandbox.deleteSnapshot(snapshotId, options), true);
      assert.equal(await Sandbox.deleteSnapshot(snapshotId, options), false);
      await assert.rejects(Sandbox.create(snapshotId, options), /404: There is no template/);
    }
    await assert.rejects(sandbox.createSnapshot({ name: 'no good' }), /400: /);
    await assert.rejects(Sandbox.deleteSnapshot('base', options), /409: .*made by set-up/);
  });
});
