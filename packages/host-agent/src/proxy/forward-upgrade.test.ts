import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Duplex } from 'node:stream';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { WebSocket, WebSocketServer } from 'ws';
import { pathOf, raw, startApp, startProxy } from './testing/proxy-under-test.ts';

describe('an upgrade through the host proxy', () => {
  test('joins WebSockets both ways, with the first bytes that came along', async (t) => {
    const { socketPath, activities } = await startProxy(t);
    const app = await startApp(t, (_incoming, response) => {
      response.writeHead(426).end();
    });
    const wss = new WebSocketServer({ server: app });
    t.after(() => wss.close());
    wss.on('connection', (socket, incoming) => {
      socket.send(`hello ${incoming.url} ${incoming.headers['x-own']}`);
      socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
    });
    const socket = new WebSocket(`ws+unix:${socketPath}:${pathOf(app.port, '/chat?room=1')}`, {
      headers: { 'x-own': 'kept' },
    });
    const [hello] = await once(socket, 'message');
    assert.equal(String(hello), 'hello /chat?room=1 kept');
    const large = randomBytes(3 * 1024 * 1024);
    socket.send(large);
    const [echo] = await once(socket, 'message');
    assert.ok(large.equals(echo));
    assert.equal(activities.open, 1);
    socket.close(4001, 'done');
    const [code, reason] = await once(socket, 'close');
    assert.equal(code, 4001);
    assert.equal(String(reason), 'done');
  });

  test('that the application refuses is answered and closed, so nothing slips through behind it', async (t) => {
    const { socketPath } = await startProxy(t);
    const urls: string[] = [];
    const app = await startApp(t, (incoming, response) => {
      urls.push(incoming.url ?? '');
      response.end('no upgrade here');
    });
    const answer = await raw(
      socketPath,
      `GET ${pathOf(app.port, '/chat')} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: own\r\n\r\n` +
        'POST /init HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n',
    );
    assert.match(answer, /^HTTP\/1\.1 200 OK\r\n[\s\S]*Connection: close\r\n\r\nno upgrade here$/);
    assert.deepEqual(urls, ['/chat']);
  });

  test('gets a connection of its own, since one that had waited may just be closed', async (t) => {
    const { socketPath, ask } = await startProxy(t);
    const app = await startApp(t, (_incoming, response) => response.end('kept'));
    const used = new WeakSet<Duplex>();
    app.on('request', (incoming) => used.add(incoming.socket));
    app.on('upgrade', (_incoming, socket: Duplex) => {
      if (used.has(socket)) socket.destroy();
      else socket.end('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: own\r\n\r\nnew');
    });
    assert.equal((await ask(pathOf(app.port, '/'))).body.toString(), 'kept');
    const answer = await raw(
      socketPath,
      `GET ${pathOf(app.port, '/')} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: own\r\n\r\n`,
    );
    assert.match(answer, /^HTTP\/1\.1 101 [\s\S]*new$/);
  });

  test('to an internal route, a closed port or an unknown sandbox is refused in JSON', async (t) => {
    const { socketPath } = await startProxy(t);
    for (const [path, status] of [
      [pathOf(49_983, '/init'), 404],
      [pathOf(1, '/'), 502],
      [pathOf(80, '/', 'i2'), 502],
      ['/elsewhere', 400],
    ] as const) {
      const answer = await raw(
        socketPath,
        `GET ${path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n`,
      );
      assert.match(answer, new RegExp(`^HTTP/1\\.1 ${status} `), path);
      assert.equal(JSON.parse(answer.slice(answer.indexOf('{'))).code, status);
    }
  });

  test('that is only an offer of HTTP/2 is taken for the plain request it is, body and all', async (t) => {
    const { ask } = await startProxy(t);
    const app = await startApp(t, (incoming, response) => {
      response.setHeader('x-saw-upgrade', String(incoming.headers.upgrade));
      incoming.pipe(response);
    });
    const { response, body } = await ask(pathOf(app.port, '/'), {
      method: 'POST',
      headers: { connection: 'Upgrade, HTTP2-Settings', upgrade: 'h2c', 'http2-settings': 'AAMAAABk' },
      body: 'the body',
    });
    assert.equal(response.statusCode, 200);
    assert.equal(response.headers['x-saw-upgrade'], 'undefined');
    assert.equal(body.toString(), 'the body');
  });

  test('ends with the client', async (t) => {
    const { socketPath } = await startProxy(t);
    const { promise: closed, resolve: isClosed } = Promise.withResolvers<void>();
    const app = await startApp(t, () => {});
    app.on('upgrade', (_incoming, socket) => {
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: own\r\n\r\n');
      socket.on('error', () => {});
      socket.once('close', isClosed);
      socket.resume();
      socket.once('end', () => socket.end());
    });
    const client = connect(socketPath);
    client.write(`GET ${pathOf(app.port, '/')} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: own\r\n\r\n`);
    await once(client, 'data');
    client.destroy();
    await closed;
  });

  test('brings all that an application says before it ends to a client that is slower and still speaks', async (t) => {
    const { open, activities } = await startProxy(t);
    const content = randomBytes(20 * 1024 * 1024);
    const app = await startApp(t, () => {});
    app.on('upgrade', (_incoming, socket: Duplex) => {
      socket.on('error', () => {});
      socket.resume();
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: own\r\n\r\n');
      socket.end(content);
    });
    const outgoing = open(pathOf(app.port, '/'), { headers: { connection: 'Upgrade', upgrade: 'own' } });
    outgoing.end();
    const [, socket, head] = await once(outgoing, 'upgrade');
    socket.write('more');
    const pieces = [head];
    for await (const piece of socket) {
      pieces.push(piece);
      if (pieces.length % 10 === 0) await sleep(1);
      if (pieces.length === 10) socket.write('and more');
    }
    assert.ok(Buffer.concat(pieces).equals(content));
    while (activities.open > 0) await sleep(5);
  });
});
