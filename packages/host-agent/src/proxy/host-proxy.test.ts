import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import {
  Agent,
  type ClientRequest,
  createServer,
  type IncomingMessage,
  type OutgoingHttpHeaders,
  request,
  type Server,
} from 'node:http';
import { type AddressInfo, connect, createServer as createTcpServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer, text } from 'node:stream/consumers';
import { describe, type TestContext, test } from 'node:test';
import { NestboxError } from '@nestbox/contract';
import { createLogger } from '@nestbox/kit';
import { WebSocket, WebSocketServer } from 'ws';
import { createHostProxy, type HostProxy } from './host-proxy.ts';
import { listenForProxyTraffic } from './proxy-server.ts';

const logger = createLogger({ level: 'silent' });
const SANDBOX_ID = 'i1';

interface ProxyUnderTest {
  readonly proxy: HostProxy;
  readonly socketPath: string;
  readonly activities: { begun: number; open: number };
  ask(path: string, options?: AskOptions): Promise<Answer>;
  open(path: string, options?: AskOptions): ClientRequest;
}

interface AskOptions {
  readonly method?: string;
  readonly headers?: OutgoingHttpHeaders;
  readonly body?: string | Buffer | Readable;
  readonly agent?: Agent;
}

interface Answer {
  readonly response: IncomingMessage;
  readonly body: Buffer;
}

async function startProxy(t: TestContext): Promise<ProxyUnderTest> {
  const folder = await mkdtemp(join(tmpdir(), 'nestbox-proxy-'));
  const socketPath = join(folder, 'proxy.sock');
  const activities = { begun: 0, open: 0 };
  const proxy = createHostProxy({
    logger,
    dialBackoffMs: 5,
    sandboxes: {
      target(sandboxId) {
        if (sandboxId === 'full') throw new NestboxError('host_disk_full', 'no room');
        if (sandboxId !== SANDBOX_ID) throw new NestboxError('sandbox_not_found', `There is no sandbox ${sandboxId}.`);
        return {
          address: '127.0.0.1',
          beginActivity() {
            activities.begun += 1;
            activities.open += 1;
            return () => {
              activities.open -= 1;
            };
          },
        };
      },
    },
  });
  const listener = await listenForProxyTraffic(proxy, { socketPath }, logger);
  t.after(async () => {
    proxy.close();
    await listener.close();
    await rm(folder, { recursive: true, force: true });
  });
  const open = (path: string, options: AskOptions = {}) =>
    request({
      socketPath,
      path,
      method: options.method ?? 'GET',
      headers: { host: '8080-i1.sandbox.example', ...options.headers },
      ...(options.agent === undefined ? {} : { agent: options.agent }),
    });
  const ask = async (path: string, options: AskOptions = {}): Promise<Answer> => {
    const outgoing = open(path, options);
    const answered = once(outgoing, 'response');
    if (options.body instanceof Readable) options.body.pipe(outgoing);
    else outgoing.end(options.body);
    const [response]: IncomingMessage[] = await answered;
    assert.ok(response);
    return { response, body: await buffer(response) };
  };
  return { proxy, socketPath, activities, open, ask };
}

async function startApp(
  t: TestContext,
  handler: Parameters<typeof createServer>[1],
): Promise<Server & { port: number }> {
  const server = createServer(handler);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return Object.assign(server, { port: portOf(server) });
}

function portOf(server: { address(): AddressInfo | string | null }): number {
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  return address.port;
}

const pathOf = (port: number, path: string, sandboxId = SANDBOX_ID) => `/proxy/${sandboxId}/${port}${path}`;

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
    for (const path of ['/init', '//init', '/%69nit', '/x/../init', '/init/', '/freeze?x', '/memory/preload/cancel'])
      for (const method of ['GET', 'POST', 'OPTIONS'])
        assert.equal((await ask(pathOf(49_983, path), { method })).response.statusCode, 404, `${method} ${path}`);
    assert.equal((await ask('/')).response.statusCode, 400);
    assert.equal((await ask('/proxy/i1/99999/')).response.statusCode, 400);
  });

  test('502 when the application answers nonsense or nothing, and cuts an answer that breaks off', async (t) => {
    const { ask, open } = await startProxy(t);
    const replies = ['nonsense\r\n\r\n', '', 'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this'];
    const app = createTcpServer((socket) => {
      socket.once('data', () => socket.end(replies.shift() ?? ''));
      socket.on('error', () => {});
    });
    await new Promise<void>((resolve) => app.listen(0, '127.0.0.1', resolve));
    t.after(() => app.close());
    for (let i = 0; i < 2; i++) {
      const { response, body } = await ask(pathOf(portOf(app), '/'), { method: 'POST' });
      assert.equal(response.statusCode, 502);
      assert.equal(JSON.parse(body.toString()).error_code, 'sandbox_unreachable');
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
});

function* chunksOf(content: Buffer, size: number): Generator<Buffer> {
  for (let offset = 0; offset < content.length; offset += size) yield content.subarray(offset, offset + size);
}

/** Sends bytes as they are and collects what comes until the other side closes. */
async function raw(socketPath: string, bytes: string): Promise<string> {
  const socket = connect(socketPath);
  socket.write(bytes);
  return text(socket);
}
