import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { Agent, type IncomingMessage } from 'node:http';
import { createServer as createTcpServer } from 'node:net';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { describe, test } from 'node:test';
import { WebSocket, WebSocketServer } from 'ws';
import { pathOf, portOf, raw, SANDBOX_ID, startApp, startProxy } from './testing/proxy-under-test.ts';

describe('a request through the host proxy', () => {
  test('reaches the application as the client sent it, and its answer comes back', async (t) => {
    const { ask, activities } = await startProxy(t);
    const app = await startApp(t, async (incoming, response) => {
      const body = await text(incoming);
      response.sendDate = false;
      response.writeHead(201, 'Made', ['Set-Cookie', 'a=1', 'X-App', 'yes', 'Set-Cookie', 'b=2']);
      response.end(JSON.stringify({ url: incoming.url, raw: incoming.rawHeaders, method: incoming.method, body }));
    });
    const { response, body } = await ask(pathOf(app.port, '/a//b/%2F?x=%20&y'), {
      method: 'PATCH',
      headers: { 'X-Odd-CASE': 'kept', 'Proxy-Connection': 'x', 'X-Hop': '1', Connection: 'X-Hop' },
      body: 'hello',
    });
    assert.equal(response.statusCode, 201);
    assert.equal(response.statusMessage, 'Made');
    assert.deepEqual(response.headers['set-cookie'], ['a=1', 'b=2']);
    assert.equal(response.headers.date, undefined, 'the proxy adds no headers of its own');
    assert.equal(response.headers['content-type'], undefined);
    const seen = JSON.parse(body.toString());
    assert.equal(seen.url, '/a//b/%2F?x=%20&y');
    assert.equal(seen.method, 'PATCH');
    assert.equal(seen.body, 'hello');
    assert.ok(seen.raw.includes('X-Odd-CASE'));
    assert.equal(
      seen.raw[seen.raw.findIndex((name: string) => name.toLowerCase() === 'host') + 1],
      '8080-i1.sandbox.example',
    );
    assert.ok(!seen.raw.includes('X-Hop') && !seen.raw.includes('Proxy-Connection'));
    assert.equal(activities.begun, 1);
    assert.equal(activities.open, 0);
  });

  test('carries large bodies of both framings unchanged, both ways at once', async (t) => {
    const { ask } = await startProxy(t);
    const app = await startApp(t, (incoming, response) => {
      incoming.pipe(response);
    });
    const content = randomBytes(8 * 1024 * 1024);
    const digest = createHash('sha256').update(content).digest('hex');
    for (const headers of [{ 'content-length': content.length }, { 'transfer-encoding': 'chunked' }]) {
      const { body } = await ask(pathOf(app.port, '/'), {
        method: 'POST',
        headers,
        body: Readable.from(chunksOf(content, 60_001), { objectMode: false }),
      });
      assert.equal(createHash('sha256').update(body).digest('hex'), digest);
    }
  });

  test('gets the first bytes of an answer before the last are made, the head even before the first', async (t) => {
    const { open } = await startProxy(t);
    const { promise: mayGoOn, resolve: goOn } = Promise.withResolvers<void>();
    const app = await startApp(t, async (_incoming, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.flushHeaders();
      await mayGoOn;
      response.end('data: 1\n\n');
    });
    const outgoing = open(pathOf(app.port, '/events'));
    outgoing.end();
    const [response]: IncomingMessage[] = await once(outgoing, 'response');
    assert.equal(response?.statusCode, 200);
    goOn();
    assert.ok(response);
    assert.equal(await text(response), 'data: 1\n\n');
  });

  test('makes a fast application wait for a slow client', async (t) => {
    const { open } = await startProxy(t);
    let written = 0;
    const { promise: stuck, resolve: isStuck } = Promise.withResolvers<void>();
    const app = await startApp(t, (_incoming, response) => {
      const chunk = Buffer.alloc(64 * 1024);
      const fill = () => {
        while (written < 512 * 1024 * 1024) {
          written += chunk.length;
          if (!response.write(chunk)) {
            // Not drained for a while: everybody on the way is full.
            const timer = setTimeout(isStuck, 300);
            response.once('drain', () => {
              clearTimeout(timer);
              fill();
            });
            return;
          }
        }
      };
      fill();
    });
    const outgoing = open(pathOf(app.port, '/'));
    outgoing.end();
    const [response]: IncomingMessage[] = await once(outgoing, 'response');
    response?.pause();
    await stuck;
    assert.ok(written < 64 * 1024 * 1024, `${written} bytes were taken from the application`);
    outgoing.destroy();
  });

  test('of methods and statuses without a body is answered without one', async (t) => {
    const { ask } = await startProxy(t);
    const app = await startApp(t, (incoming, response) => {
      const status = Number(incoming.url?.slice(1));
      response.writeHead(status, status === 200 ? { 'content-length': 1234 } : {});
      response.end();
    });
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    t.after(() => agent.destroy());
    const head = await ask(pathOf(app.port, '/200'), { method: 'HEAD', agent });
    assert.equal(head.response.headers['content-length'], '1234');
    assert.equal(head.body.length, 0);
    for (const status of [204, 304]) {
      const { response, body } = await ask(pathOf(app.port, `/${status}`), { agent });
      assert.equal(response.statusCode, status);
      assert.equal(body.length, 0);
    }
  });

  test('that asks to continue hears of it from the application, or gets its final answer at once', async (t) => {
    const { open } = await startProxy(t);
    const app = await startApp(t, (incoming, response) => incoming.pipe(response));
    app.on('checkContinue', (incoming, response) => {
      if (incoming.url === '/no') response.writeHead(417).end();
      else {
        response.writeContinue();
        incoming.pipe(response);
      }
    });
    const headers = { expect: '100-continue', 'content-length': 5 };
    const yes = open(pathOf(app.port, '/yes'), { method: 'PUT', headers });
    await once(yes, 'continue');
    yes.end('12345');
    const [accepted]: IncomingMessage[] = await once(yes, 'response');
    assert.ok(accepted);
    assert.equal(await text(accepted), '12345');

    const no = open(pathOf(app.port, '/no'), { method: 'PUT', headers });
    const [refused]: IncomingMessage[] = await once(no, 'response');
    assert.equal(refused?.statusCode, 417);
    assert.equal(refused?.headers.connection, 'close');
    no.destroy();
  });

  test('stays inside the sandbox when the application redirects', async (t) => {
    const { ask } = await startProxy(t);
    const app = await startApp(t, (incoming, response) => {
      const location = incoming.url === '/root' ? '/login/' : `http://localhost:${portOf(app)}/abs`;
      response.writeHead(302, { location }).end();
    });
    assert.equal((await ask(pathOf(app.port, '/root'))).response.headers.location, '/login/');
    assert.equal((await ask(pathOf(app.port, '/abs'))).response.headers.location, '/abs');
  });

  test('uses connections again, and a fresh one when the application has closed the old one', async (t) => {
    const { ask } = await startProxy(t);
    const ports = new Set<number | undefined>();
    const app = await startApp(t, (incoming, response) => {
      ports.add(incoming.socket.remotePort);
      response.end('ok');
      if (incoming.url === '/last') response.once('finish', () => incoming.socket.end());
    });
    // Announces nothing, so that the proxy cannot know.
    app.keepAliveTimeout = 0;
    await ask(pathOf(app.port, '/1'));
    await ask(pathOf(app.port, '/2'));
    assert.equal(ports.size, 1);
    await ask(pathOf(app.port, '/last'));
    assert.equal((await ask(pathOf(app.port, '/3'))).body.toString(), 'ok');
    assert.equal(ports.size, 2);
  });
});

describe('the host proxy answers', () => {
  test('502 and names sandbox and port when the sandbox is not there or the port is not open', async (t) => {
    const { ask } = await startProxy(t);
    const closed = createTcpServer();
    await new Promise<void>((resolve) => closed.listen(0, '127.0.0.1', resolve));
    const port = portOf(closed);
    await new Promise((resolve) => closed.close(resolve));

    const notThere = await ask(pathOf(80, '/', 'i2'));
    assert.equal(notThere.response.statusCode, 502);
    assert.deepEqual(JSON.parse(notThere.body.toString()), {
      code: 502,
      error_code: 'sandbox_not_found',
      message: 'There is no sandbox i2.',
      sandboxId: 'i2',
      port: 80,
    });
    const notOpen = await ask(pathOf(port, '/'), { method: 'POST', body: 'x'.repeat(100_000) });
    assert.equal(notOpen.response.statusCode, 502);
    assert.deepEqual(JSON.parse(notOpen.body.toString()), {
      code: 502,
      error_code: 'port_not_open',
      message: `The sandbox is running but nothing listens on port ${port}.`,
      sandboxId: SANDBOX_ID,
      port,
    });
  });

  test('507 for a sandbox that stands still since the disk of the host is full', async (t) => {
    const { ask } = await startProxy(t);
    const { response, body } = await ask(pathOf(80, '/', 'full'));
    assert.equal(response.statusCode, 507);
    assert.equal(JSON.parse(body.toString()).error_code, 'host_disk_full');
  });

  test('404 for routes of the guest agent that are the host’s own, and 400 for what is no route', async (t) => {
    const { ask } = await startProxy(t);
    for (const path of [
      '/init',
      '//init',
      '/%69nit',
      '/x/../init',
      '/init/',
      '/clock',
      '/freeze?x',
      '/memory/preload/cancel',
    ])
      for (const method of ['GET', 'POST', 'OPTIONS'])
        assert.equal((await ask(pathOf(49_983, path), { method })).response.statusCode, 404, `${method} ${path}`);
    assert.equal((await ask('/')).response.statusCode, 400);
    assert.equal((await ask('/proxy/i1/99999/')).response.statusCode, 400);
  });

  test('502 when the application answers nonsense or nothing, and cuts an answer that breaks off', async (t) => {
    const { ask, open } = await startProxy(t);
    const refused = [
      ['nonsense\r\n\r\n', /^The answer of the application on port \d+ is not valid HTTP\/1\.1: Expected HTTP\//],
      ['', /^The connection to port \d+ was closed before there was an answer: /],
      [`HTTP/1.1 200 OK\r\nX: ${'x'.repeat(70_000)}\r\n\r\n`, /has more than 64 KiB of headers\.$/],
      ['HTTP/1.1 101 Other\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n', /it changed the protocol unasked\.$/],
      // A body that is still packed, in chunks: without this header nobody could tell.
      [
        'HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n',
        /its Transfer-Encoding is "gzip, chunked", and only "chunked" passes\.$/,
      ],
    ] as const;
    const replies = [...refused.map(([reply]) => reply), 'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this'];
    const app = createTcpServer((socket) => {
      socket.once('data', () => socket.end(replies.shift() ?? ''));
      socket.on('error', () => {});
    });
    await new Promise<void>((resolve) => app.listen(0, '127.0.0.1', resolve));
    t.after(() => app.close());
    for (const [, message] of refused) {
      const { response, body } = await ask(pathOf(portOf(app), '/'), { method: 'POST' });
      assert.equal(response.statusCode, 502);
      const told = JSON.parse(body.toString());
      assert.equal(told.error_code, 'sandbox_unreachable');
      assert.match(told.message, message);
    }
    const outgoing = open(pathOf(portOf(app), '/'));
    outgoing.end();
    const [response]: IncomingMessage[] = await once(outgoing, 'response');
    assert.ok(response);
    await assert.rejects(text(response), /aborted|ECONNRESET/);
  });

  test('400 for ambiguous requests: two hosts, two lengths, length and chunks', async (t) => {
    const { socketPath } = await startProxy(t);
    const app = await startApp(t, (_incoming, response) => {
      response.end('reached');
    });
    for (const lines of [
      ['Host: a', 'Host: b'],
      ['Host: a', 'Content-Length: 1', 'Content-Length: 2'],
      ['Host: a', 'Content-Length: 1', 'Transfer-Encoding: chunked'],
      ['Host: a', 'Transfer-Encoding: chunked, identity'],
    ]) {
      const answer = await raw(socketPath, `POST ${pathOf(app.port, '/')} HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\nx`);
      assert.match(answer, /^HTTP\/1\.1 400 /, lines.join(' + '));
    }
  });
});

describe('when a side goes away', () => {
  test('the application’s request is ended with the client’s', async (t) => {
    const { open, activities } = await startProxy(t);
    const { promise: closed, resolve: isClosed } = Promise.withResolvers<void>();
    const app = await startApp(t, (_incoming, response) => {
      response.write('begun');
      response.once('close', isClosed);
    });
    const outgoing = open(pathOf(app.port, '/'));
    outgoing.end();
    outgoing.on('error', () => {});
    const [response]: IncomingMessage[] = await once(outgoing, 'response');
    assert.equal(activities.open, 1);
    response?.on('error', () => {});
    outgoing.destroy();
    await closed;
    assert.equal(activities.open, 0);
  });

  test('an upload that breaks off never looks complete to the application', async (t) => {
    const { open } = await startProxy(t);
    const { promise: outcome, resolve: tell } = Promise.withResolvers<string>();
    const app = await startApp(t, (incoming) => {
      incoming.once('data', () => outgoing.destroy());
      incoming.once('end', () => tell('complete'));
      incoming.once('error', () => tell('broken'));
    });
    const outgoing = open(pathOf(app.port, '/'), { method: 'PUT', headers: { 'transfer-encoding': 'chunked' } });
    outgoing.on('error', () => {});
    outgoing.write('half of it');
    assert.equal(await outcome, 'broken');
  });

  test('a sandbox that is gone takes its requests and WebSockets along', async (t) => {
    const { open, proxy, socketPath } = await startProxy(t);
    const app = await startApp(t, (_incoming, response) => {
      response.write('begun');
    });
    const wss = new WebSocketServer({ server: app });
    const socket = new WebSocket(`ws+unix:${socketPath}:${pathOf(app.port, '/ws')}`);
    await once(socket, 'open');
    const outgoing = open(pathOf(app.port, '/'));
    outgoing.end();
    const [response]: IncomingMessage[] = await once(outgoing, 'response');
    assert.ok(response);
    const ended = [assert.rejects(text(response)), once(socket, 'close')];
    proxy.dropSandbox(SANDBOX_ID);
    await Promise.all(ended);
    wss.close();
  });
});

function* chunksOf(content: Buffer, size: number): Generator<Buffer> {
  for (let offset = 0; offset < content.length; offset += size) yield content.subarray(offset, offset + size);
}
