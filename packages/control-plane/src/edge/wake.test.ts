import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { describe, test } from 'node:test';
import { WebSocket, WebSocketServer } from 'ws';
import { arrived, readDetail, until } from '../testing/api-answers.ts';
import { echo, edgeError, Stage } from '../testing/edge-stage.ts';
import { hostError } from '../testing/host-double-snapshots.ts';
import { ManualClock } from '../testing/manual-clock.ts';

const WAKES = { autoPause: true, autoResume: { enabled: true } };

async function pause(stage: Stage, body: object = {}): Promise<void> {
  const answer = await stage.server.send('POST', `/sandboxes/${stage.sandboxId}/pause`, body);
  assert.equal(answer.status, 204);
}

async function readEdgeError(answer: Response) {
  const { code, ...error } = edgeError.parse(await answer.json());
  assert.equal(code, answer.status);
  return { status: answer.status, code: error.error_code, message: error.message };
}

describe('a request to a paused sandbox that wakes by itself', () => {
  test('resumes it with its memory, for as long as its client last asked for, and is answered', async () => {
    const clock = new ManualClock();
    const seen: IncomingMessage[] = [];
    await using stage = await Stage.open(echo(seen), { timeout: 70, ...WAKES }, clock);
    await pause(stage);
    clock.advance(1_000_000);
    const answer = await stage.fetch('/a?b', { method: 'POST', body: 'x'.repeat(1_000_000) });
    assert.equal(answer.status, 200);
    assert.equal((await answer.text()).length, 1_000_000);
    assert.equal(seen[0]?.url, `/proxy/${stage.sandboxId}/8080/a?b`);
    assert.deepEqual(
      stage.host.snapshots.resumes.map(({ sandboxId, memory }) => [sandboxId, memory]),
      [[stage.sandboxId, true]],
    );
    const detail = await readDetail(stage.server, stage.sandboxId);
    assert.equal(detail.state, 'running');
    assert.equal(Date.parse(detail.endAt), clock.now() + 70_000);
    assert.deepEqual(detail.lifecycle, { onTimeout: 'pause', autoResume: true });
    // And it is paused again at that end.
    await clock.untilSleeping(60_000);
    clock.advance(60_000);
    await clock.untilSleeping(10_000);
    clock.advance(10_000);
    await until(async () => (await readDetail(stage.server, stage.sandboxId)).state === 'paused');
  });

  test('follows the last time-out that was set', async () => {
    const clock = new ManualClock();
    await using stage = await Stage.open(echo(), { timeout: 70, ...WAKES }, clock);
    await stage.server.send('POST', `/sandboxes/${stage.sandboxId}/timeout`, { timeout: 33 });
    await pause(stage);
    await stage.fetch('/');
    assert.equal(Date.parse((await readDetail(stage.server, stage.sandboxId)).endAt), clock.now() + 33_000);
  });

  test('shares one resume with all others at the same time, WebSockets too', async () => {
    await using stage = await Stage.open(echo(), WAKES);
    const sockets = new WebSocketServer({ server: stage.host.proxy });
    sockets.on('connection', (socket) => socket.on('message', (data) => socket.send(data)));
    await pause(stage);
    const open = stage.host.snapshots.resumeGate.close();
    const answers = Array.from({ length: 20 }, (_, index) => stage.fetch(`/${index}`));
    const client = new WebSocket(`${stage.server.edgeUrl.replace('http', 'ws')}/live`, { headers: stage.routing() });
    const opened = once(client, 'open');
    await arrived();
    assert.equal((await readDetail(stage.server, stage.sandboxId)).state, 'paused');
    open();
    for (const answer of await Promise.all(answers)) assert.equal(answer.status, 200);
    await opened;
    const message = once(client, 'message');
    client.send('hello');
    assert.equal(String((await message)[0]), 'hello');
    assert.equal(stage.host.snapshots.resumes.length, 1);
    client.terminate();
    sockets.close();
  });

  test('by a WebSocket alone resumes it too', async () => {
    await using stage = await Stage.open(echo(), WAKES);
    const sockets = new WebSocketServer({ server: stage.host.proxy });
    await pause(stage);
    const client = new WebSocket(`${stage.server.edgeUrl.replace('http', 'ws')}/`, { headers: stage.routing() });
    await once(client, 'open');
    assert.equal(stage.host.snapshots.resumes.length, 1);
    client.terminate();
    sockets.close();
  });

  test('whose client goes away leaves the resume to the others', async () => {
    await using stage = await Stage.open(echo(), WAKES);
    await pause(stage);
    const open = stage.host.snapshots.resumeGate.close();
    const abort = new AbortController();
    const leaving = stage.fetch('/', { signal: abort.signal });
    await stage.host.until(() => stage.host.snapshots.resumes.length === 1);
    const socket = await stage.socket();
    socket.on('error', () => {});
    socket.write(`GET / HTTP/1.1\r\nHost: ${stage.hostName}\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n`);
    const staying = stage.fetch('/');
    await arrived();
    abort.abort();
    socket.resetAndDestroy();
    await assert.rejects(leaving);
    open();
    assert.equal((await staying).status, 200);
  });

  test('is told why when it cannot be resumed, all who wait at once, and the next one tries again', async () => {
    await using stage = await Stage.open(echo(), WAKES);
    await pause(stage);
    for (const [code, status] of [
      ['host_capacity', 503],
      ['boot_timeout', 504],
      ['snapshot_damaged', 500],
      ['deadline_exceeded', 504],
    ] as const) {
      const before = stage.host.snapshots.resumes.length;
      const open = stage.host.snapshots.resumeGate.close();
      stage.host.snapshots.resumeGate.error = hostError(code, 'The file /var/lib/nestbox/x is bad.');
      const answers = [1, 2, 3].map(() => stage.fetch('/'));
      await arrived();
      open();
      // To whoever it is, so not in the host's words.
      for (const answer of await Promise.all(answers))
        assert.deepEqual(await readEdgeError(answer), {
          status,
          code,
          message: `The sandbox is paused and cannot go on now. Its owner is told why by Sandbox.connect() or POST /sandboxes/${stage.sandboxId}/connect.`,
        });
      assert.equal(stage.host.snapshots.resumes.length, before + 1);
    }
    stage.host.snapshots.resumeGate.error = undefined;
    assert.equal((await stage.fetch('/')).status, 200);
  });

  test('that comes while it is being paused waits for that, and then resumes it', async () => {
    await using stage = await Stage.open(echo(), WAKES);
    // The route is known by now.
    await stage.fetch('/');
    const open = stage.host.snapshots.pauseGate.close();
    const pausing = pause(stage);
    await stage.host.until(() => stage.host.snapshots.pauses.length === 1);
    const answer = stage.fetch('/');
    await arrived();
    assert.equal(stage.host.snapshots.resumes.length, 0);
    open();
    await pausing;
    assert.equal((await answer).status, 200);
    assert.equal(stage.host.snapshots.resumes.length, 1);
  });

  test('that comes while it is being paused goes on to it when the pause fails', async () => {
    await using stage = await Stage.open(echo(), WAKES);
    const open = stage.host.snapshots.pauseGate.close();
    stage.host.snapshots.pauseGate.error = hostError('host_disk_full');
    const pausing = stage.server.api(`/sandboxes/${stage.sandboxId}/pause`, { method: 'POST' });
    await stage.host.until(() => stage.host.snapshots.pauses.length === 1);
    const answer = stage.fetch('/');
    await arrived();
    open();
    assert.equal((await pausing).status, 507);
    assert.equal((await answer).status, 200);
    assert.equal(stage.host.snapshots.resumes.length, 0);
  });

  test('that is killed while a request waits answers like one that is not there', async () => {
    await using stage = await Stage.open(echo(), WAKES);
    await pause(stage);
    const open = stage.host.snapshots.resumeGate.close();
    const answer = stage.fetch('/');
    await stage.host.until(() => stage.host.snapshots.resumes.length === 1);
    await stage.server.api(`/sandboxes/${stage.sandboxId}`, { method: 'DELETE' });
    open();
    const error = await readEdgeError(await answer);
    assert.deepEqual([error.status, error.code], [502, 'sandbox_not_found']);
  });

  test('without the traffic token, or to a route that is the host’s, does not wake it', async () => {
    await using stage = await Stage.open(echo(), { ...WAKES, network: { allowPublicTraffic: false } });
    await pause(stage);
    assert.equal((await stage.fetch('/')).status, 403);
    assert.equal((await stage.fetch('/init', { method: 'POST' }, 49_983)).status, 404);
    assert.equal(stage.host.snapshots.resumes.length, 0);
    const answer = await stage.fetch('/', { headers: { 'e2b-traffic-access-token': stage.trafficToken } });
    assert.equal(answer.status, 200);
  });
});

describe('a request to a paused sandbox that does not wake by itself', () => {
  async function refuses(stage: Stage): Promise<void> {
    const error = await readEdgeError(await stage.fetch('/'));
    assert.deepEqual([error.status, error.code], [502, 'sandbox_paused']);
    assert.match(error.message, new RegExp(`paused.*/sandboxes/${stage.sandboxId}/connect`));
    const upgrade = `GET / HTTP/1.1\r\nHost: ${stage.hostName}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n`;
    assert.match(await stage.raw(upgrade), /^HTTP\/1\.1 502 .*"error_code":"sandbox_paused"/s);
    assert.equal(stage.host.snapshots.resumes.length, 0);
  }

  test('says that it is paused and how to resume it', async () => {
    await using stage = await Stage.open(echo(), { autoPause: true });
    await stage.fetch('/');
    await pause(stage);
    await refuses(stage);
  });

  test('also when its memory was not kept, though it wakes by itself otherwise', async () => {
    await using stage = await Stage.open(echo(), WAKES);
    await pause(stage, { memory: false });
    await refuses(stage);
  });

  test('while it is being paused', async () => {
    await using stage = await Stage.open(echo());
    await stage.fetch('/');
    const open = stage.host.snapshots.pauseGate.close();
    const pausing = pause(stage);
    await stage.host.until(() => stage.host.snapshots.pauses.length === 1);
    await refuses(stage);
    open();
    await pausing;
  });

  test('waits when somebody is resuming it', async () => {
    await using stage = await Stage.open(echo());
    await pause(stage);
    const open = stage.host.snapshots.resumeGate.close();
    const connecting = stage.server.send('POST', `/sandboxes/${stage.sandboxId}/connect`, { timeout: 60 });
    await stage.host.until(() => stage.host.snapshots.resumes.length === 1);
    const answer = stage.fetch('/');
    await arrived();
    open();
    assert.equal((await connecting).status, 201);
    assert.equal((await answer).status, 200);
    assert.equal(stage.host.snapshots.resumes.length, 1);
  });
});
