import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { errorBody, sandboxBody } from '@nestbox/contract/http';
import { z } from 'zod';
import { createSandbox, listIds, readDetail, readError, until } from './testing/api-answers.ts';
import { HostDouble } from './testing/host-double.ts';
import { hostError } from './testing/host-double-snapshots.ts';
import { ManualClock } from './testing/manual-clock.ts';
import { startTestServer, type TestServer } from './testing/start-test-server.ts';

const results = z.array(z.union([z.strictObject({ sandbox: sandboxBody }), z.strictObject({ error: errorBody })]));

const fork = (server: TestServer, id: string, body: unknown = {}) => server.send('POST', `/sandboxes/${id}/fork`, body);

async function forked(server: TestServer, id: string, body: unknown = {}) {
  const answer = await fork(server, id, body);
  assert.equal(answer.status, 201, await answer.clone().text());
  return results.parse(await answer.json());
}

async function copyIds(server: TestServer, id: string, body: unknown = {}): Promise<string[]> {
  return (await forked(server, id, body)).map((result) => {
    assert.ok('sandbox' in result);
    return result.sandbox.sandboxID;
  });
}

describe('a fork', () => {
  test('makes one copy that lives 15 seconds unless told otherwise, and the source goes on as it was', async () => {
    const clock = new ManualClock();
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], {}, clock);
    const id = await createSandbox(server, { timeout: 100 });
    const before = await readDetail(server, id);
    clock.advance(5000);
    for (const init of [{}, { headers: { 'Content-Type': 'application/json' } }]) {
      const answer = await server.api(`/sandboxes/${id}/fork`, { method: 'POST', ...init });
      assert.equal(answer.status, 201);
      const [result, ...more] = results.parse(await answer.json());
      assert.equal(more.length, 0);
      assert.ok(result !== undefined && 'sandbox' in result);
      const copy = await readDetail(server, result.sandbox.sandboxID);
      assert.notEqual(copy.sandboxID, id);
      assert.equal(Date.parse(copy.startedAt), clock.now());
      assert.equal(Date.parse(copy.endAt), clock.now() + 15_000);
    }
    assert.deepEqual(await readDetail(server, id), before);
    assert.equal(host.snapshots.forks.length, 2);
  });

  test('makes as many copies as asked for in one call, each with an id and tokens of its own', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const id = await createSandbox(server, { secure: true, network: { allowPublicTraffic: false } });
    const copies = await forked(server, id, { count: 100, timeout: 60 });
    assert.equal(copies.length, 100);
    const bodies = copies.map((copy) => {
      assert.ok('sandbox' in copy);
      return copy.sandbox;
    });
    assert.equal(new Set(bodies.map(({ sandboxID }) => sandboxID)).size, 100);
    assert.equal(new Set(bodies.map(({ envdAccessToken }) => envdAccessToken)).size, 100);
    assert.equal(new Set(bodies.map(({ trafficAccessToken }) => trafficAccessToken)).size, 100);
    const [request] = host.snapshots.forks;
    assert.equal(request?.sandboxId, id);
    assert.deepEqual(
      request?.copies.map(({ sandboxId, accessToken }) => [sandboxId, accessToken]),
      bodies.map(({ sandboxID, envdAccessToken }) => [sandboxID, envdAccessToken]),
    );
    assert.equal((await listIds(server, '/sandboxes')).length, 101);
    const insecure = await createSandbox(server);
    await copyIds(server, insecure);
    assert.equal(host.snapshots.forks[1]?.copies[0]?.accessToken, '');
  });

  test('copies what the source was created with', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const id = await createSandbox(server, {
      metadata: { app: 'x', run: '1' },
      secure: true,
      allow_internet_access: false,
      network: { denyOut: ['0.0.0.0/0'] },
      autoPause: true,
      autoResume: { enabled: true },
    });
    const [copy = ''] = await copyIds(server, id, { timeout: 60 });
    const { sandboxID, startedAt, endAt, envdAccessToken, ...source } = await readDetail(server, id);
    const {
      sandboxID: _id,
      startedAt: _start,
      endAt: _end,
      envdAccessToken: token,
      ...copied
    } = await readDetail(server, copy);
    assert.deepEqual(copied, source);
    assert.notEqual(token, envdAccessToken);
    assert.deepEqual(new Set(await listIds(server, '/v2/sandboxes?metadata=app%3Dx')), new Set([sandboxID, copy]));
    assert.ok(startedAt <= endAt);
  });

  test('tells of each copy whether it succeeded; one that failed is gone', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const id = await createSandbox(server);
    host.snapshots.failingCopies.set(1, { code: 'host_capacity', message: 'No memory is left.' });
    host.snapshots.failingCopies.set(3, { code: 'of tomorrow', message: 'Something new.' });
    const copies = await forked(server, id, { count: 4 });
    assert.deepEqual(
      copies.map((copy) => ('error' in copy ? copy.error : 'sandbox')),
      [
        'sandbox',
        { code: 503, message: 'No memory is left.', error_code: 'host_capacity' },
        'sandbox',
        { code: 500, message: 'Something new.', error_code: 'internal' },
      ],
    );
    assert.equal((await listIds(server)).length, 3);
    const failed = host.snapshots.forks[0]?.copies.filter((_, index) => index % 2 === 1) ?? [];
    await host.until(() => host.destroyed.length === 2);
    assert.deepEqual(new Set(host.destroyed), new Set(failed.map(({ sandboxId }) => sandboxId)));
    assert.equal(host.sandboxes.size, 3);
  });

  test('of which every copy fails is still an answer', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const id = await createSandbox(server);
    host.snapshots.failingCopies.set(0, { code: 'vm_died', message: 'It died.' });
    assert.deepEqual(await forked(server, id), [{ error: { code: 502, message: 'It died.', error_code: 'vm_died' } }]);
    assert.deepEqual(await listIds(server), [id]);
  });

  test("that fails as a whole answers the host's own error and leaves nothing behind", async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const id = await createSandbox(server);
    host.snapshots.forkGate.error = hostError('host_disk_full', 'There is no room.');
    const error = await readError(await fork(server, id, { count: 3 }));
    assert.deepEqual(error, { status: 507, code: 'host_disk_full', message: 'There is no room.' });
    assert.deepEqual(await listIds(server), [id]);
    assert.equal(host.destroyed.length, 3);
    assert.ok(!host.destroyed.includes(id));
  });

  test('whose client goes away leaves no copies behind', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const id = await createSandbox(server);
    host.snapshots.forkGate.close();
    const abort = new AbortController();
    const forking = server.api(`/sandboxes/${id}/fork`, { method: 'POST', signal: abort.signal });
    await host.until(() => host.snapshots.forks.length === 1);
    abort.abort();
    await assert.rejects(forking);
    await host.until(() => host.destroyed.length === 1);
    await until(async () => (await listIds(server)).join() === id);
    assert.deepEqual([...host.sandboxes.keys()], [id]);
  });

  test('of a paused sandbox, of none, or out of range is refused before anything is made', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const id = await createSandbox(server);
    for (const body of [
      { count: 0 },
      { count: 101 },
      { count: -1 },
      { count: 1.5 },
      { count: '2' },
      { count: null },
      { timeout: 0 },
      { timeout: -1 },
      { timeout: 86_401 },
      { timeout: 'x' },
      [],
    ])
      assert.equal((await readError(await fork(server, id, body))).code, 'invalid_request', JSON.stringify(body));
    assert.equal((await readError(await fork(server, 'iunknown'))).code, 'sandbox_not_found');
    await server.api(`/sandboxes/${id}/pause`, { method: 'POST' });
    const error = await readError(await fork(server, id));
    assert.deepEqual([error.status, error.code], [409, 'sandbox_paused']);
    assert.equal(host.snapshots.forks.length, 0);
    assert.deepEqual(await listIds(server), [id]);
  });

  test('a copy that is killed while it starts is ended', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const id = await createSandbox(server);
    const open = host.snapshots.forkGate.close();
    const forking = fork(server, id, { count: 2 });
    await host.until(() => host.snapshots.forks.length === 1);
    const copy = host.snapshots.forks[0]?.copies[0]?.sandboxId ?? '';
    assert.equal((await server.api(`/sandboxes/${copy}`)).status, 404, 'what is starting is not shown');
    host.destroyError = hostError('internal');
    assert.equal((await server.api(`/sandboxes/${copy}`, { method: 'DELETE' })).status, 500);
    host.destroyError = undefined;
    open();
    const copies = results.parse(await (await forking).json());
    assert.deepEqual(
      copies.map((result) => ('error' in result ? result.error.error_code : 'sandbox')),
      ['sandbox_stopping', 'sandbox'],
    );
    await host.until(() => !host.sandboxes.has(copy));
    assert.equal((await listIds(server)).length, 2);
  });

  test('a copy can be paused, resumed and forked like any other', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const id = await createSandbox(server);
    const [copy = ''] = await copyIds(server, id, { timeout: 60 });
    assert.equal((await server.api(`/sandboxes/${copy}/pause`, { method: 'POST' })).status, 204);
    assert.equal((await server.send('POST', `/sandboxes/${copy}/connect`, { timeout: 60 })).status, 201);
    assert.equal((await copyIds(server, copy)).length, 1);
  });
});
