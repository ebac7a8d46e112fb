import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { Code, ConnectError } from '@connectrpc/connect';
import { newSandboxId } from '@nestbox/contract';
import { SandboxState } from '@nestbox/contract/host';
import { errorBody } from '@nestbox/contract/http';
import { z } from 'zod';
import { HostDouble } from '../testing/host-double.ts';
import { ManualClock } from '../testing/manual-clock.ts';
import { startTestServer, type TestServer } from '../testing/start-test-server.ts';

const MINUTE_MS = 60_000;

async function createSandbox(server: TestServer, timeout = 600): Promise<string> {
  const response = await server.send('POST', '/v2/sandboxes', { templateID: 'base', timeout });
  assert.equal(response.status, 201, await response.clone().text());
  return z.object({ sandboxID: z.string() }).parse(await response.json()).sandboxID;
}

async function listIds(server: TestServer): Promise<string[]> {
  const listed = z.array(z.object({ sandboxID: z.string() })).parse(await (await server.api('/sandboxes')).json());
  return listed.map(({ sandboxID }) => sandboxID);
}

const stateOf = (body: unknown) => z.object({ state: z.string() }).parse(body).state;

/** For what happens after an event of the host and has no event of its own. */
async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setImmediate(resolve));
}

/** A database file for servers that follow each other. */
async function withDatabase(use: (databasePath: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'nestbox-control-'));
  try {
    await use(join(folder, 'control-plane.db'));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

describe('news of a host', () => {
  test('that come while it is asked about older ones are not lost over the answer', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const id = await createSandbox(server);
    const gate = Promise.withResolvers<void>();
    host.lookUpGate = gate.promise;
    host.setState(id, SandboxState.PAUSED, true);
    await host.until(() => host.lookedFor.length === 1);
    host.setState(id, SandboxState.RUNNING);
    host.addUnasked(newSandboxId(), true);
    // News are taken in turn: when those after it have been, the gate may open.
    await host.until(() => host.lookedFor.length === 2);
    gate.resolve();
    await host.until(() => host.lookedFor.filter((asked) => asked === id).length === 2);
    await until(async () => stateOf(await (await server.api(`/sandboxes/${id}`)).json()) === 'running');
  });
});

describe('the end of sandboxes', () => {
  test('comes at their time-out and not before', async () => {
    const clock = new ManualClock();
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], {}, clock);
    const short = await createSandbox(server, 20);
    const long = await createSandbox(server, 40);
    await clock.untilSleeping(20_000);
    clock.advance(19_999);
    await clock.untilSleeping(1);
    assert.deepEqual(host.destroyed, []);
    clock.advance(1);
    await host.until(() => host.destroyed.length === 1);
    assert.deepEqual(host.destroyed, [short]);
    await until(async () => (await listIds(server)).join() === long);
  });

  test('follows a time-out that was set earlier while the reaper slept', async () => {
    const clock = new ManualClock();
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], {}, clock);
    const id = await createSandbox(server, 50);
    await clock.untilSleeping(50_000);
    await server.send('POST', `/sandboxes/${id}/timeout`, { timeout: 3 });
    await clock.untilSleeping(3000);
    clock.advance(3000);
    await host.until(() => host.destroyed.length === 1);
  });

  test('comes at once for a time-out of 0', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const id = await createSandbox(server);
    assert.equal((await server.send('POST', `/sandboxes/${id}/timeout`, { timeout: 0 })).status, 204);
    await host.until(() => host.destroyed.includes(id));
  });

  test('is noticed within a minute when the wall clock jumps', async () => {
    const clock = new ManualClock();
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], {}, clock);
    const id = await createSandbox(server, 3600);
    await clock.untilSleeping(MINUTE_MS);
    clock.jump(3_600_000);
    clock.advance(MINUTE_MS);
    await host.until(() => host.destroyed.includes(id));
  });

  test('is tried again when the host failed to end it', async () => {
    const clock = new ManualClock();
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], {}, clock);
    const id = await createSandbox(server);
    host.destroyError = new ConnectError('disk on fire', Code.Internal);
    const failed = await server.api(`/sandboxes/${id}`, { method: 'DELETE' });
    assert.equal(failed.status, 503);
    assert.deepEqual(await listIds(server), []);
    assert.equal((await server.api(`/sandboxes/${id}`)).status, 404);
    const connecting = await server.send('POST', `/sandboxes/${id}/connect`, { timeout: 1 });
    assert.equal(errorBody.parse(await connecting.json()).error_code, 'sandbox_stopping');
    host.destroyError = undefined;
    await clock.untilSleeping(10_000);
    clock.advance(10_000);
    await host.until(() => host.sandboxes.size === 0);
    assert.deepEqual(host.destroyed, [id, id]);
    await until(async () => (await server.api(`/sandboxes/${id}`, { method: 'DELETE' })).status === 404);
  });

  test('asked for twice at once happens once, and the second asker finds nothing', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const id = await createSandbox(server);
    const answers = await Promise.all([1, 2].map(() => server.api(`/sandboxes/${id}`, { method: 'DELETE' })));
    assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([204, 404]));
    assert.deepEqual(host.destroyed, [id]);
  });
});

describe('reconciliation', () => {
  test('drops a sandbox that its host says is gone', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const lost = await createSandbox(server);
    const kept = await createSandbox(server);
    host.lose(lost);
    await until(async () => (await listIds(server)).join() === kept);
    assert.deepEqual(host.destroyed, []);
  });

  test('takes in what no row names, at the start and later, and destroys nothing', async () => {
    await using host = await new HostDouble().open();
    host.addUnasked('iatstart');
    await using server = await startTestServer([host]);
    const own = await createSandbox(server);
    host.addUnasked('ilater', true);
    await until(async () => (await listIds(server)).length === 3);
    assert.deepEqual(new Set(await listIds(server)), new Set(['iatstart', 'ilater', own]));
    assert.deepEqual(host.destroyed, []);
  });

  test('does not take in what has ended since it was told', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    host.addUnasked('iended');
    const [stale] = host.sandboxes.values();
    assert.ok(stale);
    host.sandboxes.delete('iended');
    host.announce(stale);
    await host.until(() => host.lookedFor.includes('iended'));
    const own = await createSandbox(server);
    assert.deepEqual(await listIds(server), [own]);
  });

  test('leaves a create in flight alone while the watch begins anew', async () => {
    const clock = new ManualClock();
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], {}, clock);
    const gate = Promise.withResolvers<void>();
    host.createGate = gate.promise;
    const creating = createSandbox(server);
    await host.until(() => host.created.length === 1);
    // The host has it already, as a booting sandbox, when the new watch begins.
    host.addUnasked(host.created[0]?.sandboxId ?? '');
    host.goOffline();
    await clock.untilSleeping(100);
    host.comeBack();
    clock.advance(100);
    await until(async () => (await server.api('/templates')).status === 200);
    gate.resolve();
    const id = await creating;
    assert.deepEqual(await listIds(server), [id]);
    assert.deepEqual(host.destroyed, []);
  });

  test('does not believe a list that is older than a sandbox', async () => {
    const clock = new ManualClock();
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], {}, clock);
    const id = await createSandbox(server);
    host.missingInList.add(id);
    host.goOffline();
    await clock.untilSleeping(100);
    host.comeBack();
    clock.advance(100);
    await host.until(() => host.lookedFor.includes(id));
    await until(async () => (await server.api('/templates')).status === 200);
    assert.deepEqual(await listIds(server), [id]);
  });

  test('keeps rows while a host is away, answers 503 meanwhile, and goes on when it is back', async () => {
    const clock = new ManualClock();
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], {}, clock);
    const kept = await createSandbox(server);
    const lost = await createSandbox(server);
    host.goOffline();
    await clock.untilSleeping(100);
    assert.equal((await listIds(server)).length, 2);
    assert.equal((await server.api(`/sandboxes/${kept}`)).status, 200);
    for (const answer of [
      await server.send('POST', '/v2/sandboxes', { templateID: 'base' }),
      await server.send('POST', `/sandboxes/${kept}/connect`, { timeout: 1 }),
      await server.api(`/sandboxes/${kept}/metrics`),
      await server.api('/templates'),
    ]) {
      assert.equal(answer.status, 503);
      assert.equal(errorBody.parse(await answer.json()).error_code, 'host_unavailable');
    }
    // Pauses between attempts double.
    clock.advance(100);
    await clock.untilSleeping(200);
    host.sandboxes.delete(lost);
    host.comeBack();
    clock.advance(200);
    await until(async () => (await listIds(server)).join() === kept);
    await createSandbox(server);
  });

  test('a sandbox killed while its host was away is ended when the host is back', async () => {
    const clock = new ManualClock();
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], {}, clock);
    const id = await createSandbox(server);
    host.goOffline();
    await clock.untilSleeping(100);
    assert.equal((await server.api(`/sandboxes/${id}`, { method: 'DELETE' })).status, 503);
    host.comeBack();
    clock.advance(100);
    await host.until(() => host.sandboxes.size === 0);
  });

  test('one host that is away does not stand in the way of another', async () => {
    await using away = await new HostDouble('away').open();
    await using there = await new HostDouble('there').open();
    away.goOffline();
    await using server = await startTestServer([away, there]);
    await createSandbox(server);
    assert.equal(there.created.length, 1);
  });
});

describe('a restart of the control plane', () => {
  test('loses nothing that runs, and ends stay where they were', () =>
    withDatabase(async (databasePath) => {
      const clock = new ManualClock();
      await using host = await new HostDouble().open();
      const first = await startTestServer([host], { databasePath }, clock);
      const short = await createSandbox(first, 30);
      const long = await createSandbox(first, 600);
      await first.stop();
      assert.equal(host.sandboxes.size, 2);
      assert.deepEqual(host.destroyed, []);

      await using second = await startTestServer([host], { databasePath }, clock);
      assert.deepEqual(new Set(await listIds(second)), new Set([short, long]));
      await clock.untilSleeping(30_000);
      clock.advance(30_000);
      await host.until(() => host.destroyed.length === 1);
      assert.deepEqual(host.destroyed, [short]);
    }));

  test('ends what was due meanwhile, and drops what is gone', () =>
    withDatabase(async (databasePath) => {
      const clock = new ManualClock();
      await using host = await new HostDouble().open();
      const first = await startTestServer([host], { databasePath }, clock);
      const due = await createSandbox(first, 30);
      const gone = await createSandbox(first);
      await first.stop();
      clock.advance(31_000);
      host.sandboxes.delete(gone);
      await using second = await startTestServer([host], { databasePath }, clock);
      await host.until(() => host.destroyed.length === 1);
      assert.deepEqual(host.destroyed, [due]);
      await until(async () => (await listIds(second)).length === 0);
    }));

  test('a stop in the middle of a create leaves no sandbox behind', () =>
    withDatabase(async (databasePath) => {
      await using host = await new HostDouble().open();
      const first = await startTestServer([host], { databasePath });
      host.createGate = new Promise(() => {});
      const creating = assert.rejects(createSandbox(first));
      await host.until(() => host.created.length === 1);
      await first.stop();
      await creating;
      assert.deepEqual(host.destroyed, [host.created[0]?.sandboxId]);
    }));

  test('a host that has another id now keeps its sandboxes, running and ended', () =>
    withDatabase(async (databasePath) => {
      await using before = await new HostDouble('local').open();
      const first = await startTestServer([before], { databasePath });
      const kept = await createSandbox(first);
      const ended = await createSandbox(first);
      assert.equal((await first.api(`/sandboxes/${ended}`, { method: 'DELETE' })).status, 204);
      await first.stop();

      await using now = await new HostDouble('0123456789abcdef').open();
      for (const [id, sandbox] of before.sandboxes) now.sandboxes.set(id, sandbox);
      await using second = await startTestServer([], {
        databasePath,
        hosts: [{ ...now.connection, formerIds: ['local'] }],
      });
      assert.deepEqual(await listIds(second), [kept]);
      assert.equal((await second.api(`/sandboxes/${ended}/logs`)).status, 200);
      assert.equal((await second.api(`/sandboxes/${kept}`, { method: 'DELETE' })).status, 204);
      assert.deepEqual([now.sandboxes.size, now.destroyed], [0, [kept]]);
    }));

  test('a port that is taken is an error, and leaves the database free', () =>
    withDatabase(async (databasePath) => {
      await using host = await new HostDouble().open();
      await using first = await startTestServer([host]);
      const taken = { host: '127.0.0.1', port: Number(new URL(first.edgeUrl).port) };
      await assert.rejects(startTestServer([], { databasePath, edge: taken }), { code: 'conflict' });
      await assert.rejects(startTestServer([], { databasePath, api: taken }), { code: 'conflict' });
      await using _second = await startTestServer([], { databasePath });
    }));

  test('without hosts the server answers, and says so', async () => {
    await using server = await startTestServer([]);
    const answer = await server.send('POST', '/v2/sandboxes', { templateID: 'base' });
    assert.equal(answer.status, 503);
    assert.equal((await server.api(`/sandboxes/${newSandboxId()}`)).status, 404);
  });
});
