import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { text } from 'node:stream/consumers';
import { describe, type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { WebSocket, WebSocketServer } from 'ws';
import {
  type Answer,
  type ProxyUnderTest,
  pathOf,
  raw,
  SANDBOX_ID,
  startApp,
  startProxy,
} from './testing/proxy-under-test.ts';

/** So long that only a test which is about to fail waits for it. */
const LONG_MS = 60_000;

/** An application whose answers begin at once and end when the test says so. */
async function startSlowApp(t: TestContext) {
  const open: ServerResponse[] = [];
  const app = await startApp(t, (_incoming, response) => {
    response.write('begun ');
    open.push(response);
  });
  return {
    app,
    finish() {
      for (const response of open.splice(0)) response.end('and done');
    },
  };
}

async function beginRequest({ open }: ProxyUnderTest, port: number): Promise<IncomingMessage> {
  const outgoing = open(pathOf(port, '/'));
  outgoing.on('error', () => {});
  outgoing.end();
  const [response]: IncomingMessage[] = await once(outgoing, 'response');
  assert.ok(response);
  return response;
}

function assertRefused({ response, body }: Answer, port: number): void {
  assert.equal(response.statusCode, 502);
  const { message, ...rest } = JSON.parse(body.toString());
  assert.deepEqual(rest, { code: 502, error_code: 'sandbox_unreachable', sandboxId: SANDBOX_ID, port });
  assert.match(message, /is being paused/);
}

/** What is under way has been for a minute. */
function makeOld(t: TestContext) {
  const now = performance.now.bind(performance);
  const { mock } = t.mock.method(performance, 'now', () => now() + 60_000);
  return mock;
}

describe('draining a sandbox', () => {
  test('refuses what is new, lets finish what is in flight, and is done then', async (t) => {
    const host = await startProxy(t);
    const { app, finish } = await startSlowApp(t);
    const first = await beginRequest(host, app.port);
    let drained = false;
    const draining = host.proxy.drain(SANDBOX_ID, LONG_MS).then(() => {
      drained = true;
    });
    assertRefused(await host.ask(pathOf(app.port, '/')), app.port);
    assertRefused(await host.ask(pathOf(49_983, '/health')), 49_983);
    const upgrade = await raw(
      host.socketPath,
      `GET ${pathOf(app.port, '/')} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n`,
    );
    assert.match(upgrade, /^HTTP\/1\.1 502 [\s\S]*is being paused/);
    assert.equal(drained, false);
    finish();
    assert.equal(await text(first), 'begun and done');
    await draining;
    assert.equal(host.activities.open, 0);
  });

  test('is done at once when nothing is in flight, or nothing ever was', async (t) => {
    const host = await startProxy(t);
    await host.proxy.drain(SANDBOX_ID, LONG_MS);
    host.proxy.admit(SANDBOX_ID);
    const app = await startApp(t, (_incoming, response) => {
      response.end('ok');
    });
    assert.equal((await host.ask(pathOf(app.port, '/'))).body.toString(), 'ok');
    await host.proxy.drain(SANDBOX_ID, LONG_MS);
  });

  test('waits for WebSockets as well, and closes them when its time is over', async (t) => {
    const host = await startProxy(t);
    const app = await startApp(t, (_incoming, response) => {
      response.end();
    });
    const wss = new WebSocketServer({ server: app });
    t.after(() => wss.close());
    const sockets = await Promise.all(
      [1, 2].map(async () => {
        const socket = new WebSocket(`ws+unix:${host.socketPath}:${pathOf(app.port, '/ws')}`);
        await once(socket, 'open');
        return socket;
      }),
    );
    const [leaving, staying] = sockets;
    assert.ok(leaving && staying);
    const closed = once(staying, 'close');
    const begun = performance.now();
    const draining = host.proxy.drain(SANDBOX_ID, 300);
    leaving.close();
    await draining;
    assert.ok(performance.now() - begun >= 295, 'the one that stays is given its time');
    await closed;
    assert.equal(leaving.readyState, WebSocket.CLOSED);
  });

  test('is done when its time is over although a request goes on; dropping the sandbox ends that', async (t) => {
    const host = await startProxy(t);
    const { app } = await startSlowApp(t);
    const response = await beginRequest(host, app.port);
    await host.proxy.drain(SANDBOX_ID, 50);
    assert.equal(response.complete, false);
    assert.equal(host.activities.open, 1);
    const broken = assert.rejects(text(response));
    host.proxy.dropSandbox(SANDBOX_ID);
    await broken;
  });

  test('does not wait for streams that have gone on for long and say nothing; what is not answered yet has its time', async (t) => {
    const host = await startProxy(t);
    const { app, finish } = await startSlowApp(t);
    const unanswered: ServerResponse[] = [];
    const slow = await startApp(t, (_incoming, response) => {
      unanswered.push(response);
    });
    const wss = new WebSocketServer({ server: app });
    t.after(() => wss.close());
    const socket = new WebSocket(`ws+unix:${host.socketPath}:${pathOf(app.port, '/ws')}`);
    await once(socket, 'open');
    const closed = once(socket, 'close');
    const stream = await beginRequest(host, app.port);
    const late = host.ask(pathOf(slow.port, '/'));
    while (unanswered.length === 0) await delay(5);
    makeOld(t);
    let drained = false;
    const draining = host.proxy.drain(SANDBOX_ID, LONG_MS).then(() => {
      drained = true;
    });
    await delay(600);
    assert.equal(drained, false, 'one is not answered yet');
    unanswered[0]?.end('late');
    assert.equal((await late).body.toString(), 'late');
    await draining;
    await closed;
    host.proxy.admit(SANDBOX_ID);
    finish();
    assert.equal(await text(stream), 'begun and done', 'it goes on when the pause fails');
  });

  test('waits for old streams in which something moves, and for what its client has not read', async (t) => {
    const host = await startProxy(t);
    let isTalking = true;
    t.after(() => {
      isTalking = false;
    });
    const app = await startApp(t, async (incoming, response) => {
      if (incoming.url === '/much') response.end(Buffer.alloc(64 * 2 ** 20));
      for (; isTalking && incoming.url === '/'; await delay(20)) response.write('.');
    });
    for (const path of ['/', '/much']) {
      const outgoing = host.open(pathOf(app.port, path));
      outgoing.on('error', () => {});
      outgoing.end();
      const [response]: IncomingMessage[] = await once(outgoing, 'response');
      if (path === '/') response?.resume();
      const mocked = makeOld(t);
      const begunMs = performance.now();
      await host.proxy.drain(SANDBOX_ID, 800);
      assert.ok(performance.now() - begunMs >= 795, path);
      mocked.restore();
      outgoing.destroy();
      host.proxy.dropSandbox(SANDBOX_ID);
    }
  });

  test('ends with the sandbox: nobody waits for a request of one that is gone', async (t) => {
    const host = await startProxy(t);
    const { app } = await startSlowApp(t);
    const response = await beginRequest(host, app.port);
    const draining = Promise.all([host.proxy.drain(SANDBOX_ID, LONG_MS), host.proxy.drain(SANDBOX_ID, LONG_MS)]);
    const broken = assert.rejects(text(response));
    host.proxy.dropSandbox(SANDBOX_ID);
    await Promise.all([draining, broken]);
  });

  test('tells whoever waited for an answer why there is none, on a connection of its own and on one that was used before', async (t) => {
    const host = await startProxy(t);
    const arrived: (() => void)[] = [];
    const app = await startApp(t, (incoming, response) => {
      if (incoming.url === '/first') response.end('ok');
      else arrived.shift()?.();
    });
    for (const isUsedBefore of [false, true]) {
      if (isUsedBefore) await host.ask(pathOf(app.port, '/first'));
      const { promise, resolve } = Promise.withResolvers<void>();
      arrived.push(resolve);
      const answer = host.ask(pathOf(app.port, '/waits'));
      await promise;
      host.proxy.dropSandbox(SANDBOX_ID);
      const { response, body } = await answer;
      assert.equal(response.statusCode, 502);
      assert.match(JSON.parse(body.toString()).message, /the sandbox ended or was paused\.?$/);
    }
  });

  test('is over when the pause has failed, or when the sandbox is back', async (t) => {
    const host = await startProxy(t);
    const app = await startApp(t, (_incoming, response) => {
      response.end('ok');
    });
    for (const end of ['admit', 'dropSandbox'] as const) {
      await host.proxy.drain(SANDBOX_ID);
      assertRefused(await host.ask(pathOf(app.port, '/')), app.port);
      host.proxy[end](SANDBOX_ID);
      assert.equal((await host.ask(pathOf(app.port, '/'))).body.toString(), 'ok');
    }
  });

  test('leaves routes of the host alone, and other sandboxes', async (t) => {
    const host = await startProxy(t);
    await host.proxy.drain(SANDBOX_ID);
    assert.equal((await host.ask(pathOf(49_983, '/init'))).response.statusCode, 404);
    const other = await host.ask(pathOf(80, '/', 'i2'));
    assert.equal(JSON.parse(other.body.toString()).error_code, 'sandbox_not_found');
  });
});
