import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { SandboxState } from '@nestbox/contract/host';
import { sandboxBody } from '@nestbox/contract/http';
import { arrived, createSandbox, listIds, readDetail, readError, until } from './testing/api-answers.ts';
import { HostDouble } from './testing/host-double.ts';
import { hostError } from './testing/host-double-snapshots.ts';
import { ManualClock } from './testing/manual-clock.ts';
import { startTestServer, type TestServer } from './testing/start-test-server.ts';

const JSON_HEADERS = { 'Content-Type': 'application/json' };

function pause(server: TestServer, id: string, body?: unknown): Promise<Response> {
  const path = `/sandboxes/${id}/pause`;
  return body === undefined ? server.api(path, { method: 'POST' }) : server.send('POST', path, body);
}

const resume = (server: TestServer, id: string, body: unknown = {}) =>
  server.send('POST', `/sandboxes/${id}/resume`, body);

const connect = (server: TestServer, id: string, body: unknown = { timeout: 60 }) =>
  server.send('POST', `/sandboxes/${id}/connect`, body);

async function paused(server: TestServer, fields: Record<string, unknown> = {}): Promise<string> {
  const id = await createSandbox(server, fields);
  assert.equal((await pause(server, id)).status, 204);
  return id;
}

async function codeOf(response: Response): Promise<string> {
  return (await readError(response)).code;
}

describe('a pause', () => {
  test('keeps the memory unless it is told not to, and the body may be missing', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    for (const body of [undefined, {}, { memory: true }, { memory: false }]) {
      const id = await createSandbox(server);
      const answer = await pause(server, id, body);
      assert.equal(answer.status, 204);
      assert.equal(await answer.text(), '');
      assert.equal(host.snapshots.pauses.at(-1)?.sandboxId, id);
    }
    const empty = await server.api(`/sandboxes/${await createSandbox(server)}/pause`, {
      method: 'POST',
      headers: JSON_HEADERS,
    });
    assert.equal(empty.status, 204);
    assert.deepEqual(
      host.snapshots.pauses.map(({ memory }) => memory),
      [true, true, true, false, true],
    );
  });

  test('leaves a sandbox that is shown as paused since then, and takes what needs a running one away', async () => {
    const clock = new ManualClock();
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], {}, clock);
    const id = await createSandbox(server, { metadata: { a: 'b' }, timeout: 600 });
    clock.advance(7000);
    await pause(server, id);
    const detail = await readDetail(server, id);
    assert.equal(detail.state, 'paused');
    assert.equal(Date.parse(detail.endAt) - Date.parse(detail.startedAt), 7000);
    assert.deepEqual(detail.metadata, { a: 'b' });
    for (const [path, body] of [
      ['timeout', { timeout: 5 }],
      ['refreshes', {}],
    ] as const) {
      const error = await readError(await server.send('POST', `/sandboxes/${id}/${path}`, body));
      assert.deepEqual([error.status, error.code], [404, 'sandbox_not_found']);
      assert.match(error.message, /is paused/);
    }
    assert.deepEqual(await (await server.api(`/sandboxes/metrics?sandbox_ids=${id}`)).json(), { sandboxes: {} });
    clock.advance(3_600_000);
    assert.equal((await readDetail(server, id)).state, 'paused', 'nothing ends a paused sandbox by itself');
  });

  test('of what is paused already, or not there, is refused', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const id = await paused(server);
    assert.deepEqual((await readError(await pause(server, id))).status, 409);
    assert.equal(await codeOf(await pause(server, id)), 'sandbox_paused');
    assert.equal(await codeOf(await pause(server, 'iunknown')), 'sandbox_not_found');
    for (const body of [{ memory: 'yes' }, { memory: null }, [], 'x', 7])
      assert.equal(await codeOf(await pause(server, id, body)), 'invalid_request', JSON.stringify(body));
    const running = await createSandbox(server);
    assert.equal(await codeOf(await pause(server, running, { requireHealthyGuest: true })), 'not_supported');
    assert.equal((await readDetail(server, running)).state, 'running');
    assert.equal(host.snapshots.pauses.length, 1);
  });

  test('asked for twice at once happens once', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const id = await createSandbox(server);
    const answers = await Promise.all([pause(server, id), pause(server, id)]);
    assert.deepEqual(answers.map(({ status }) => status).toSorted(), [204, 409]);
    assert.equal(host.snapshots.pauses.length, 1);
  });

  test('that fails leaves the sandbox as its host says: running, paused, or gone', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    host.snapshots.pauseGate.error = hostError('host_disk_full', 'There is no room.');
    const running = await createSandbox(server);
    assert.deepEqual(await readError(await pause(server, running)), {
      status: 507,
      code: 'host_disk_full',
      message: 'There is no room.',
    });
    assert.equal((await readDetail(server, running)).state, 'running');
    assert.equal((await connect(server, running)).status, 200);

    // The host had paused it, and its answer was lost.
    const both = await createSandbox(server);
    host.sandboxes.set(both, { ...host.require(both), state: SandboxState.PAUSED, pausedMemory: true });
    assert.equal(await codeOf(await pause(server, both)), 'sandbox_paused');
    assert.equal((await readDetail(server, both)).state, 'paused');

    const gone = await createSandbox(server);
    host.sandboxes.delete(gone);
    assert.equal(await codeOf(await pause(server, gone)), 'sandbox_not_found');
    assert.equal((await server.api(`/sandboxes/${gone}`)).status, 404);
  });

  test('whose outcome the host cannot tell is settled as soon as it can', async () => {
    const clock = new ManualClock();
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], {}, clock);
    const id = await createSandbox(server, { timeout: 3600 });
    host.snapshots.pauseGate.error = hostError('internal');
    host.lookUpError = hostError('internal');
    assert.equal((await pause(server, id)).status, 500);
    assert.equal((await readDetail(server, id)).state, 'running');
    assert.equal((await pause(server, id)).status, 500, 'what is not settled is not begun again');
    assert.equal(host.snapshots.pauses.length, 1);
    for (let attempt = 0; attempt < 3; attempt++) {
      const before = host.lookedFor.length;
      await clock.untilSleeping(10_000);
      clock.advance(10_000);
      await host.until(() => host.lookedFor.length > before);
    }
    host.lookUpError = undefined;
    host.snapshots.pauseGate.error = undefined;
    await until(async () => {
      clock.advance(10_000);
      return (await pause(server, id)).status === 204;
    });
  });

  test('with its host away is refused and changes nothing', async () => {
    const clock = new ManualClock();
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], {}, clock);
    const id = await createSandbox(server);
    const other = await paused(server);
    host.goOffline();
    await clock.untilSleeping(100);
    assert.equal(await codeOf(await pause(server, id)), 'host_unavailable');
    assert.equal(await codeOf(await connect(server, other)), 'host_unavailable');
    assert.equal(await codeOf(await resume(server, other)), 'host_unavailable');
    assert.equal((await readDetail(server, id)).state, 'running');
    assert.equal((await readDetail(server, other)).state, 'paused');
  });

  test('does not stop when its client goes away', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const id = await createSandbox(server);
    const open = host.snapshots.pauseGate.close();
    const abort = new AbortController();
    const pausing = server.api(`/sandboxes/${id}/pause`, { method: 'POST', signal: abort.signal });
    await host.until(() => host.snapshots.pauses.length === 1);
    abort.abort();
    await assert.rejects(pausing);
    open();
    await until(async () => (await readDetail(server, id)).state === 'paused');
  });

  test('under way is shown as running; what comes meanwhile waits for it', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const id = await createSandbox(server);
    const open = host.snapshots.pauseGate.close();
    const pausing = pause(server, id);
    await host.until(() => host.snapshots.pauses.length === 1);
    assert.equal((await readDetail(server, id)).state, 'running');
    assert.deepEqual(await listIds(server, '/v2/sandboxes?state=running'), [id]);
    const late = [pause(server, id), connect(server, id), server.send('POST', `/sandboxes/${id}/fork`, {})];
    assert.equal((await server.send('POST', `/sandboxes/${id}/timeout`, { timeout: 5 })).status, 404);
    await arrived();
    open();
    assert.equal((await pausing).status, 204);
    const [second, connected, forked] = await Promise.all(late);
    assert.equal(connected?.status, 201);
    // Each of them found it paused, or running again, depending on who came first.
    assert.ok(second?.status === 409 || second?.status === 204);
    assert.ok(forked?.status === 409 || forked?.status === 201);
  });
});

describe('a kill', () => {
  test('of a paused sandbox ends it', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const id = await paused(server);
    assert.equal((await server.api(`/sandboxes/${id}`, { method: 'DELETE' })).status, 204);
    assert.equal(host.sandboxes.size, 0);
    assert.equal((await server.api(`/sandboxes/${id}`, { method: 'DELETE' })).status, 404);
    assert.deepEqual(await listIds(server), []);
  });

  test('during a pause or a resume ends the sandbox, and the other call is told', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    for (const [begin, gate, prepare] of [
      [pause, host.snapshots.pauseGate, createSandbox],
      [resume, host.snapshots.resumeGate, paused],
      [connect, host.snapshots.resumeGate, paused],
    ] as const) {
      const id = await prepare(server);
      const open = gate.close();
      const asked = host.snapshots.pauses.length + host.snapshots.resumes.length;
      const under = begin(server, id);
      await host.until(() => host.snapshots.pauses.length + host.snapshots.resumes.length > asked);
      assert.equal((await server.api(`/sandboxes/${id}`, { method: 'DELETE' })).status, 204);
      open();
      const error = await readError(await under);
      assert.ok(['sandbox_not_found', 'sandbox_stopping'].includes(error.code), error.code);
      assert.equal((await server.api(`/sandboxes/${id}`)).status, 404);
      assert.equal(host.sandboxes.has(id), false);
    }
  });

  test('that the host does not carry out yet keeps the sandbox from being paused or resumed', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const running = await createSandbox(server);
    const asleep = await paused(server);
    host.destroyError = hostError('internal');
    for (const id of [running, asleep]) {
      assert.equal((await server.api(`/sandboxes/${id}`, { method: 'DELETE' })).status, 500);
      for (const answer of [await pause(server, id), await resume(server, id), await connect(server, id)])
        assert.equal(await codeOf(answer), 'sandbox_stopping');
    }
    assert.deepEqual(await listIds(server), []);
  });
});

describe('a resume', () => {
  test('gives 15 seconds unless told otherwise, keeps the start, and answers what a create does', async () => {
    const clock = new ManualClock();
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], {}, clock);
    const id = await paused(server, { secure: true });
    const { startedAt } = await readDetail(server, id);
    clock.advance(100_000);
    const answer = await server.api(`/sandboxes/${id}/resume`, { method: 'POST' });
    assert.equal(answer.status, 201);
    const sandbox = sandboxBody.parse(await answer.json());
    assert.equal(sandbox.sandboxID, id);
    assert.match(sandbox.envdAccessToken ?? '', /^[0-9a-f]{64}$/);
    const detail = await readDetail(server, id);
    assert.equal(detail.state, 'running');
    assert.equal(detail.startedAt, startedAt);
    assert.equal(Date.parse(detail.endAt), clock.now() + 15_000);
    assert.deepEqual(
      host.snapshots.resumes.map(({ memory }) => memory),
      [true],
    );
    await clock.untilSleeping(15_000);
    clock.advance(15_000);
    await host.until(() => host.destroyed.includes(id));
  });

  test('boots from the disk when it is told to', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const id = await paused(server);
    assert.equal((await resume(server, id, { memory: false, timeout: 60 })).status, 201);
    await pause(server, id);
    assert.equal((await connect(server, id, { memory: false, timeout: 60 })).status, 201);
    assert.deepEqual(
      host.snapshots.resumes.map(({ memory }) => memory),
      [false, false],
    );
  });

  test('replaces the setting of pausing at the end when it names one', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const id = await paused(server, { autoPause: true, autoResume: { enabled: true } });
    const lifecycle = async () => (await readDetail(server, id)).lifecycle;
    assert.deepEqual(await lifecycle(), { onTimeout: 'pause', autoResume: true });
    await resume(server, id, { timeout: 60 });
    assert.deepEqual(await lifecycle(), { onTimeout: 'pause', autoResume: true });
    await pause(server, id);
    await resume(server, id, { timeout: 60, autoPause: false });
    assert.deepEqual(await lifecycle(), { onTimeout: 'kill', autoResume: false });
    await pause(server, id);
    await resume(server, id, { timeout: 60, autoPause: true });
    assert.deepEqual(await lifecycle(), { onTimeout: 'pause', autoResume: false });
  });

  test('of what runs, or is not there, is refused, and so is a body out of range', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const running = await createSandbox(server);
    const error = await readError(await resume(server, running));
    assert.deepEqual([error.status, error.code], [409, 'sandbox_not_paused']);
    assert.equal(await codeOf(await resume(server, 'iunknown')), 'sandbox_not_found');
    const id = await paused(server);
    for (const body of [
      // It would end the moment that it runs, and all that was paused would be lost.
      { timeout: 0 },
      { timeout: -1 },
      { timeout: 86_401 },
      { timeout: 1.5 },
      { timeout: '60' },
      { timeout: null },
      { memory: 0 },
      { autoPause: 'no' },
      [],
    ])
      assert.equal(await codeOf(await resume(server, id, body)), 'invalid_request', JSON.stringify(body));
    for (const body of [{}, { timeout: 0 }, { timeout: -1 }, { timeout: 1e10 }, { timeout: 60, memory: 'x' }])
      assert.equal(await codeOf(await connect(server, id, body)), 'invalid_request', JSON.stringify(body));
    assert.equal(host.snapshots.resumes.length, 0);
    assert.equal((await readDetail(server, id)).state, 'paused');
  });

  test('asked for twice at once happens once, and the second asker learns that it runs', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const id = await paused(server);
    const answers = await Promise.all([resume(server, id), resume(server, id)]);
    assert.deepEqual(answers.map(({ status }) => status).toSorted(), [201, 409]);
    assert.equal(host.snapshots.resumes.length, 1);
  });

  test("that fails leaves the sandbox as paused as it was, with the host's own error", async () => {
    const clock = new ManualClock();
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], {}, clock);
    const id = await paused(server);
    const { endAt } = await readDetail(server, id);
    clock.advance(5000);
    host.snapshots.resumeGate.error = hostError('snapshot_incompatible', 'Made by another processor.');
    for (const call of [resume, connect]) {
      const error = await readError(await call(server, id, { timeout: 60 }));
      assert.deepEqual(error, { status: 409, code: 'snapshot_incompatible', message: 'Made by another processor.' });
      const detail = await readDetail(server, id);
      assert.deepEqual([detail.state, detail.endAt], ['paused', endAt]);
    }
    host.snapshots.resumeGate.error = undefined;
    assert.equal((await connect(server, id)).status, 201);
  });

  test('under way is shown as paused, and a pause waits for it', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const id = await paused(server);
    const open = host.snapshots.resumeGate.close();
    const resuming = resume(server, id, { timeout: 60 });
    await host.until(() => host.snapshots.resumes.length === 1);
    assert.equal((await readDetail(server, id)).state, 'paused');
    assert.deepEqual(await listIds(server, '/v2/sandboxes?state=paused'), [id]);
    const pausing = pause(server, id);
    await arrived();
    open();
    assert.equal((await resuming).status, 201);
    assert.equal((await pausing).status, 204);
    assert.equal((await readDetail(server, id)).state, 'paused');
  });
});

describe('a connect', () => {
  test('resumes a paused sandbox with 201, and then finds it running with 200, on both paths', async () => {
    const clock = new ManualClock();
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], {}, clock);
    for (const version of ['', '/v2']) {
      const id = await paused(server);
      const path = `${version}/sandboxes/${id}/connect`;
      assert.equal((await server.send('POST', path, { timeout: 100 })).status, 201);
      assert.equal(Date.parse((await readDetail(server, id)).endAt), clock.now() + 100_000);
      for (const timeout of [50, 0]) assert.equal((await server.send('POST', path, { timeout })).status, 200);
      assert.equal(Date.parse((await readDetail(server, id)).endAt), clock.now() + 100_000);
    }
    const id = await paused(server);
    assert.equal((await server.api(`/v2/sandboxes/${id}/connect`, { method: 'POST' })).status, 201);
    assert.equal(Date.parse((await readDetail(server, id)).endAt), clock.now() + 300_000);
  });

  test('at the same time as others shares their resume, and each gets at least its time', async () => {
    const clock = new ManualClock();
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], {}, clock);
    const id = await paused(server);
    const open = host.snapshots.resumeGate.close();
    const connecting = [20, 600, 30].map((timeout) => connect(server, id, { timeout }));
    await arrived();
    open();
    for (const answer of await Promise.all(connecting)) assert.equal(answer.status, 201);
    assert.equal(host.snapshots.resumes.length, 1);
    assert.equal(Date.parse((await readDetail(server, id)).endAt), clock.now() + 600_000);
  });

  test('shares a failure too, instead of trying again and again', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const id = await paused(server);
    const open = host.snapshots.resumeGate.close();
    host.snapshots.resumeGate.error = hostError('snapshot_damaged', 'A file is cut.');
    const connecting = [1, 2, 3].map(() => connect(server, id));
    await arrived();
    open();
    for (const answer of await Promise.all(connecting)) assert.equal(await codeOf(answer), 'snapshot_damaged');
    assert.equal(host.snapshots.resumes.length, 1);
  });

  test('goes on when one of those who share goes away', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const id = await paused(server);
    const open = host.snapshots.resumeGate.close();
    const abort = new AbortController();
    const leaving = server.api(`/v2/sandboxes/${id}/connect`, { method: 'POST', signal: abort.signal });
    await host.until(() => host.snapshots.resumes.length === 1);
    const staying = connect(server, id);
    await arrived();
    abort.abort();
    await assert.rejects(leaving);
    open();
    assert.equal((await staying).status, 201);
  });
});

describe('lists', () => {
  test('show running and paused sandboxes, or those that are asked for; the older list only what runs', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const asleep = await paused(server);
    const running = await createSandbox(server);
    const both = new Set([asleep, running]);
    assert.deepEqual(new Set(await listIds(server)), both);
    assert.deepEqual(new Set(await listIds(server, '/v2/sandboxes?state=running,paused')), both);
    assert.deepEqual(await listIds(server, '/v2/sandboxes?state=running'), [running]);
    assert.deepEqual(await listIds(server, '/v2/sandboxes?state=paused'), [asleep]);
    assert.deepEqual(await listIds(server, '/sandboxes'), [running]);
    for (const template of ['base', 'BASE', 'base:default', 'base0000000000000000', 'base0000000000000000:default'])
      assert.deepEqual(new Set(await listIds(server, `/v2/sandboxes?template=${template}`)), both, template);
    assert.deepEqual(await listIds(server, '/v2/sandboxes?template=base:other'), []);
    const later = new Date(Date.now() + 60_000).toISOString();
    assert.deepEqual(await listIds(server, `/v2/sandboxes?startedAfter=${later}`), []);
    assert.equal((await listIds(server, '/v2/sandboxes?startedAfter=2020-01-01T00:00:00%2B02:00')).length, 2);
    for (const query of ['', '?state=paused', '?state=running', '?limit=1'])
      assert.equal((await server.api(`/v2/sandboxes${query}`)).headers.get('x-total-running'), '1', query);
  });

  test('a paused sandbox takes none of its host, so others are placed there', async () => {
    await using first = await new HostDouble('first').open();
    await using second = await new HostDouble('second').open();
    await using server = await startTestServer([first, second]);
    await paused(server);
    assert.equal(first.created.length, 1);
    await createSandbox(server);
    assert.equal(first.created.length, 2);
    await createSandbox(server);
    assert.equal(second.created.length, 1);
  });
});
