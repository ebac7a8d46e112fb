import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import type { ClientHttp2Stream } from 'node:http2';
import { connect as connectTcp } from 'node:net';
import { buffer, text } from 'node:stream/consumers';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { WebSocket, WebSocketServer } from 'ws';
import { echo, edgeError } from '../testing/edge-stage.ts';
import { TEST_API_KEY } from '../testing/start-test-server.ts';
import { ask, TEST_DOMAIN, TlsStage } from '../testing/tls-stage.ts';

const API_HOST = `api.${TEST_DOMAIN}`;

describe('one port with TLS, by HTTP/2,', () => {
  test('is the control API under api.<domain>, bodies and errors included', async () => {
    await using tls = await TlsStage.open(echo());
    await using session = await tls.session();
    const auth = { 'x-api-key': TEST_API_KEY, ':authority': `${API_HOST}:${tls.port}` };
    const listed = await ask(session, { ':path': '/v2/sandboxes', ...auth });
    assert.equal(listed.status, 200);
    assert.equal(JSON.parse(listed.body.toString()).length, 1);
    const created = await ask(
      session,
      { ':path': '/v2/sandboxes', ':method': 'POST', 'content-type': 'application/json', ...auth },
      JSON.stringify({ templateID: 'base' }),
    );
    assert.equal(created.status, 201);
    assert.equal(JSON.parse(created.body.toString()).domain, `${TEST_DOMAIN}:${tls.port}`);
    assert.equal((await ask(session, { ':path': '/v2/sandboxes', ':authority': API_HOST })).status, 401);
    assert.equal((await ask(session, { ':path': '/nothing', ...auth })).status, 404);
  });

  test('is the sandboxes under their names, and under any name of the domain by routing headers', async () => {
    const seen: IncomingMessage[] = [];
    await using tls = await TlsStage.open(echo(seen));
    await using session = await tls.session();
    const { sandboxId } = tls.stage;
    const byName = await ask(session, {
      ':authority': `${tls.sandboxHost}:${tls.port}`,
      ':path': '/a//b?c',
      cookie: ['a=1', 'b=2'],
      'x-own': 'kept',
    });
    assert.equal(byName.status, 200);
    assert.equal(seen[0]?.url, `/proxy/${sandboxId}/8080/a//b?c`);
    assert.equal(seen[0]?.headers.host, `${tls.sandboxHost}:${tls.port}`);
    assert.equal(seen[0]?.headers.cookie, 'a=1; b=2');
    assert.equal(seen[0]?.headers['x-own'], 'kept');
    assert.equal(seen[0]?.headers['x-forwarded-proto'], 'https');
    assert.equal(seen[0]?.rawHeaders.filter((name) => name.startsWith(':')).length, 0);
    const routing = { 'e2b-sandbox-id': sandboxId, 'e2b-sandbox-port': '49983' };
    const byHeaders = await ask(session, { ':authority': `sandbox.${TEST_DOMAIN}`, ':path': '/health', ...routing });
    assert.equal(byHeaders.status, 200);
    assert.equal(seen[1]?.url, `/proxy/${sandboxId}/49983/health`);
  });

  test('streams large bodies both ways, many at once, with length and without', async () => {
    await using tls = await TlsStage.open(echo());
    await using session = await tls.session();
    const sent = Buffer.alloc(5 * 1024 * 1024, 'nestbox ');
    const answers = await Promise.all(
      [{ 'content-length': String(sent.length) }, {}, {}, {}].map((headers) =>
        ask(session, { ':authority': tls.sandboxHost, ':path': '/', ':method': 'POST', ...headers }, sent),
      ),
    );
    for (const { status, body } of answers) assert.ok(status === 200 && body.equals(sent));
  });

  test('passes heads, events, empty answers and repeated headers on as they come', async () => {
    await using tls = await TlsStage.open((incoming, response) => {
      if (incoming.url?.endsWith('/204')) response.writeHead(204).end();
      else if (incoming.url?.endsWith('/426'))
        response.writeHead(426, { Connection: 'Upgrade', Upgrade: 'websocket' }).end();
      else if (incoming.method === 'HEAD') response.writeHead(200, { 'Content-Length': '12345' }).end();
      else if (incoming.url?.endsWith('/twice'))
        response
          .writeHead(200, ['Set-Cookie', 'a=1', 'Set-Cookie', 'b=2', 'X-A', '1', 'X-A', '2', 'Location', '/a'])
          .end('x');
      else {
        response.writeHead(200, { 'Content-Type': 'text/event-stream' });
        response.flushHeaders();
        response.write('one');
      }
    });
    await using session = await tls.session();
    const to = { ':authority': tls.sandboxHost };
    assert.equal((await ask(session, { ...to, ':path': '/204' })).status, 204);
    const other = await ask(session, { ...to, ':path': '/426' });
    assert.deepEqual([other.status, other.headers.upgrade], [426, undefined]);
    const head = await ask(session, { ...to, ':path': '/', ':method': 'HEAD' });
    assert.equal(head.headers['content-length'], '12345');
    const twice = await ask(session, { ...to, ':path': '/twice' });
    assert.deepEqual(twice.headers['set-cookie'], ['a=1', 'b=2']);
    assert.equal(twice.headers['x-a'], '1, 2');
    const events = session.request({ ...to, ':path': '/events' });
    const [first] = await once(events, 'data');
    assert.equal(String(first), 'one');
    events.destroy();
  });

  test('tells an application that its client went away, and a client that its answer broke off', async () => {
    const closed = Promise.withResolvers<void>();
    await using tls = await TlsStage.open((incoming, response) => {
      response.write('half', () => {
        if (incoming.url?.endsWith('/break')) incoming.socket.destroy();
      });
      if (incoming.url?.endsWith('/leave')) response.once('close', () => closed.resolve());
    });
    await using session = await tls.session();
    const leaving: ClientHttp2Stream = session.request({ ':authority': tls.sandboxHost, ':path': '/leave' });
    await once(leaving, 'data');
    leaving.close();
    await closed.promise;
    const broken = session.request({ ':authority': tls.sandboxHost, ':path': '/break' });
    await assert.rejects(text(broken));
    // The connection itself goes on.
    assert.equal((await ask(session, { ':authority': `80-inone.${TEST_DOMAIN}`, ':path': '/' })).status, 502);
  });

  test('passes large answers on unchanged, to slow readers too, and breaks them off with either side', async () => {
    const contents = Array.from({ length: 4 }, () => randomBytes(3 * 1024 * 1024));
    const left = new Set<IncomingMessage>();
    await using tls = await TlsStage.open((incoming, response) => {
      const [, number = '', what] = /(\d)-(\w+)$/.exec(incoming.url ?? '') ?? [];
      const content = contents[Number(number)] ?? Buffer.alloc(0);
      if (what === 'length') response.writeHead(200, { 'content-length': content.length }).end(content);
      else if (what === 'chunks') {
        for (let at = 0; at < content.length; at += 100_000) response.write(content.subarray(at, at + 100_000));
        response.end();
      } else {
        left.add(incoming);
        response.once('close', () => left.delete(incoming));
        response.writeHead(200, Number(number) > 1 ? { 'content-length': content.length } : {});
        response.write(content.subarray(0, -1), () => {
          if (what === 'break') incoming.socket.destroy();
        });
      }
    });
    await using session = await tls.session();
    const open = (path: string) => session.request({ ':authority': tls.sandboxHost, ':path': path });
    await Promise.all(
      Array.from({ length: 16 }, async (_, i) => {
        const stream = open(`/${i % 4}-${i % 8 < 4 ? 'length' : 'chunks'}`);
        const pieces: Buffer[] = [];
        for await (const piece of stream) {
          pieces.push(piece);
          if (i % 3 === 0) await sleep(1);
        }
        assert.ok(Buffer.concat(pieces).equals(contents[i % 4] ?? Buffer.alloc(0)), `answer ${i}`);
      }),
    );
    for (const number of [1, 2]) {
      const leaving = open(`/${number}-leave`);
      await once(leaving, 'data');
      leaving.close();
      while (left.size > 0) await sleep(5);
      await assert.rejects(buffer(open(`/${number}-break`)));
    }
  });

  test('answers before the body is read, and takes no harm from clients that go on sending', async () => {
    await using tls = await TlsStage.open((incoming, response) => {
      response.writeHead(413, { Connection: 'close' }).end('too much', () => incoming.destroy());
    });
    await using session = await tls.session();
    const stream = session.request({ ':authority': tls.sandboxHost, ':path': '/', ':method': 'POST' });
    stream.on('error', () => {});
    stream.write('begin');
    const [head] = await once(stream, 'response');
    assert.equal(head[':status'], 413);
    stream.resume();
    await once(stream, 'close');
  });
});

describe('one port with TLS, by HTTP/1.1,', () => {
  test('serves API, sandboxes and WebSockets too', async () => {
    await using tls = await TlsStage.open(echo());
    const get = (host: string, more = '') =>
      tls.raw(`GET / HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n${more}\r\n`);
    assert.match(await get(API_HOST), /^HTTP\/1\.1 404 .*"There is no GET \/."/s);
    assert.match(await get(tls.sandboxHost), /^HTTP\/1\.1 200 /);
    const sockets = new WebSocketServer({ server: tls.stage.host.proxy });
    sockets.on('connection', (socket) => socket.on('message', (data) => socket.send(data)));
    const client = new WebSocket(`wss://${tls.sandboxHost}/`, {
      createConnection: (() => connectTcpTls(tls)) as never,
    });
    await once(client, 'open');
    client.send('hello');
    assert.equal(String((await once(client, 'message'))[0]), 'hello');
    client.terminate();
    sockets.close();
  });

  test('answers 421 to names of others, whatever they look like', async () => {
    await using tls = await TlsStage.open(echo());
    for (const host of [
      'api.evil.example',
      `${tls.sandboxHost}.evil.example`,
      'localhost',
      '127.0.0.1',
      `x${TEST_DOMAIN}`,
    ]) {
      const answer = await tls.raw(`GET / HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
      assert.match(answer, /^HTTP\/1\.1 421 /, host);
      assert.equal(edgeError.parse(JSON.parse(answer.split('\r\n\r\n')[1] ?? '')).code, 421);
      const upgrade = `GET / HTTP/1.1\r\nHost: ${host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n`;
      assert.match(await tls.raw(upgrade), /^HTTP\/1\.1 421 /, host);
    }
    const upgrade = 'Connection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n';
    const ofApi = await tls.raw(`GET /nothing HTTP/1.1\r\nHost: ${API_HOST}\r\n${upgrade}`);
    assert.match(ofApi, /^HTTP\/1\.1 404 .*"There is no GET \/nothing."/s);
    const dotted = await tls.raw(`GET / HTTP/1.1\r\nHost: API.${TEST_DOMAIN}.:99\r\nConnection: close\r\n\r\n`);
    assert.match(dotted, /^HTTP\/1\.1 404 .*"There is no GET \/."/s);
  });

  test('is closed to what speaks no TLS, and to what breaks HTTP over it', async () => {
    await using tls = await TlsStage.open(echo());
    const plain = connectTcp(tls.port, '127.0.0.1');
    plain.on('error', () => {});
    plain.write(`GET / HTTP/1.1\r\nHost: ${API_HOST}\r\n\r\n`);
    plain.resume();
    await once(plain, 'close');
    assert.match(await tls.raw('nonsense\r\n\r\n'), /^HTTP\/1\.1 400 /);
    assert.match(await tls.raw(`GET / HTTP/1.1\r\nX: ${'x'.repeat(70_000)}\r\n\r\n`), /^HTTP\/1\.1 431 /);
    for (const [bytes, status] of [
      ['GET / HTTP/1.1\r\nConnection: close\r\n\r\n', 400],
      [`GET / HTTP/1.1\r\nHost: ${API_HOST}\r\nExpect: miracles\r\nConnection: close\r\n\r\n`, 417],
      [`GET / HTTP/1.1\r\nHost: ${tls.sandboxHost}\r\nExpect: miracles\r\nConnection: close\r\n\r\n`, 417],
      [`CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: ${API_HOST}\r\n\r\n`, 405],
    ] as const)
      assert.equal(edgeError.parse(JSON.parse((await tls.raw(bytes)).split('\r\n\r\n')[1] ?? '')).code, status);
    await using session = await tls.session();
    const tunnel = await ask(session, { ':method': 'CONNECT', ':authority': '127.0.0.1:22' });
    assert.equal(edgeError.parse(JSON.parse(String(tunnel.body))).code, 405);
    const expecting = await ask(session, { ':authority': API_HOST, ':path': '/', expect: 'miracles' });
    assert.equal(edgeError.parse(JSON.parse(String(expecting.body))).code, 417);
    await assert.rejects(ask(session, { ':authority': API_HOST, ':path': '/', 'x-large': 'x'.repeat(70_000) }));
    const again = await tls.raw(`GET / HTTP/1.1\r\nHost: ${API_HOST}\r\nConnection: close\r\n\r\n`);
    assert.match(again, /^HTTP\/1\.1 404 .*"There is no GET \/."/s);
  });

  function connectTcpTls(tls: TlsStage) {
    const { connect } = process.getBuiltinModule('node:tls');
    return connect({ port: tls.port, host: '127.0.0.1', servername: tls.sandboxHost, ca: tls.ca });
  }
});
