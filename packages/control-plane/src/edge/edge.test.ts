import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, get, type IncomingMessage, type RequestListener, request, type Server } from 'node:http';
import { connect, type Socket } from 'node:net';
import { PassThrough } from 'node:stream';
import { buffer, text } from 'node:stream/consumers';
import { describe, test } from 'node:test';
import { z } from 'zod';
import { HostDouble } from '../testing/host-double.ts';
import { startTestServer, type TestServer } from '../testing/start-test-server.ts';

const GUEST_PORT = 8080;

/** A control plane with one running sandbox, whose every port is `guest`. */
class Stage implements AsyncDisposable {
  readonly host: HostDouble;
  readonly server: TestServer;
  readonly sandboxId: string;
  readonly trafficToken: string;

  private constructor(host: HostDouble, server: TestServer, sandboxId: string, trafficToken: string) {
    this.host = host;
    this.server = server;
    this.sandboxId = sandboxId;
    this.trafficToken = trafficToken;
  }

  static async open(guest: RequestListener, network: Record<string, unknown> = {}): Promise<Stage> {
    const host = await new HostDouble().open(guest);
    const server = await startTestServer([host]);
    const answer = await server.send('POST', '/v2/sandboxes', { templateID: 'base', network });
    const body = z
      .object({ sandboxID: z.string(), trafficAccessToken: z.string().nullable() })
      .parse(await answer.json());
    return new Stage(host, server, body.sandboxID, body.trafficAccessToken ?? '');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server.stop();
    await this.host[Symbol.asyncDispose]();
  }

  get port(): number {
    return Number(new URL(this.server.edgeUrl).port);
  }

  get hostName(): string {
    return `${GUEST_PORT}-${this.sandboxId}.sandboxes.example`;
  }

  routing(port: number = GUEST_PORT): Record<string, string> {
    return { 'E2b-Sandbox-Id': this.sandboxId, 'E2b-Sandbox-Port': String(port) };
  }

  fetch(path: string, init: RequestInit = {}, port?: number): Promise<Response> {
    return fetch(this.server.edgeUrl + path, { ...init, headers: { ...this.routing(port), ...init.headers } });
  }

  /** A connection of its own, for what a well-behaved client would not send. */
  async socket(): Promise<Socket> {
    const socket = connect({ port: this.port, host: '127.0.0.1', allowHalfOpen: true });
    await once(socket, 'connect');
    return socket;
  }

  /** Sends bytes as they are and collects the answer until the server closes. */
  async raw(bytes: string): Promise<string> {
    const socket = await this.socket();
    socket.write(bytes, 'latin1');
    const answer = (await buffer(socket)).toString('latin1');
    socket.destroy();
    return answer;
  }
}

const edgeError = z.object({
  code: z.int(),
  message: z.string(),
  error_code: z.string(),
  sandboxId: z.string().optional(),
});

function echo(seen: IncomingMessage[] = []): RequestListener {
  return (incoming, response) => {
    seen.push(incoming);
    response.setHeader('Content-Type', 'text/plain');
    incoming.pipe(response);
  };
}

describe('the way to a sandbox', () => {
  test('leads by the routing headers, and they win over the host name', async () => {
    const seen: IncomingMessage[] = [];
    await using stage = await Stage.open(echo(seen));
    const answer = await stage.fetch('/a/b/../c//d/?q=%20&r=/', {
      method: 'POST',
      body: 'hello',
      headers: { Host: '1-i.x' },
    });
    assert.equal(await answer.text(), 'hello');
    await stage.fetch('/', {}, 65_535);
    assert.deepEqual(
      seen.map(({ url }) => url),
      // `fetch` itself applies the dot segments.
      [`/proxy/${stage.sandboxId}/8080/a/c//d/?q=%20&r=/`, `/proxy/${stage.sandboxId}/65535/`],
    );
  });

  test('leads by the host name, in any case, with a port behind it, and the path goes through as it is', async () => {
    const seen: IncomingMessage[] = [];
    await using stage = await Stage.open(echo(seen));
    for (const host of [stage.hostName, stage.hostName.toUpperCase(), `${stage.hostName}:3001`]) {
      const answer = await stage.raw(`GET /x/../%2e/y?z HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
      assert.match(answer, /^HTTP\/1\.1 200 /);
      assert.equal(seen.at(-1)?.url, `/proxy/${stage.sandboxId}/8080/x/../%2e/y?z`);
      assert.equal(seen.at(-1)?.headers.host, host);
    }
  });

  test('takes the absolute form of a request target, and refuses what is no path', async () => {
    const seen: IncomingMessage[] = [];
    await using stage = await Stage.open(echo(seen));
    const head = `Host: ${stage.hostName}\r\nConnection: close\r\n\r\n`;
    assert.match(await stage.raw(`GET http://other/x?y HTTP/1.1\r\n${head}`), /^HTTP\/1\.1 200 /);
    assert.equal(seen[0]?.url, `/proxy/${stage.sandboxId}/8080/x?y`);
    assert.match(await stage.raw(`GET http://other?y HTTP/1.1\r\n${head}`), /^HTTP\/1\.1 200 /);
    assert.equal(seen[1]?.url, `/proxy/${stage.sandboxId}/8080/?y`);
    assert.match(await stage.raw(`OPTIONS * HTTP/1.1\r\n${head}`), /^HTTP\/1\.1 400 /);
  });

  test('is a 400 when the address is none', async () => {
    await using stage = await Stage.open(echo());
    const { sandboxId } = stage;
    for (const headers of [
      {},
      { Host: 'sandboxes.example' },
      { Host: `0-${sandboxId}.x` },
      { Host: `65536-${sandboxId}.x` },
      { Host: `-${sandboxId}.x` },
      { Host: `80-${sandboxId}` },
      { 'E2b-Sandbox-Id': sandboxId },
      { 'E2b-Sandbox-Port': '80' },
      { 'E2b-Sandbox-Id': sandboxId, 'E2b-Sandbox-Port': '0' },
      { 'E2b-Sandbox-Id': sandboxId, 'E2b-Sandbox-Port': '-80' },
      { 'E2b-Sandbox-Id': sandboxId, 'E2b-Sandbox-Port': '99999' },
      { 'E2b-Sandbox-Id': '../../etc', 'E2b-Sandbox-Port': '80' },
      { 'E2b-Sandbox-Id': 'x'.repeat(5000), 'E2b-Sandbox-Port': '80' },
    ]) {
      const lines = Object.entries({ Host: 'x', ...headers }).map(([name, value]) => `${name}: ${value}\r\n`);
      const answer = await stage.raw(`GET / HTTP/1.1\r\n${lines.join('')}Connection: close\r\n\r\n`);
      assert.match(answer, /^HTTP\/1\.1 400 /, JSON.stringify(headers).slice(0, 80));
      assert.equal(edgeError.parse(JSON.parse(answer.split('\r\n\r\n')[1] ?? '')).error_code, 'invalid_request');
    }
  });

  test('is a 502 in the known form when the sandbox does not run, and a browser may read it', async () => {
    await using stage = await Stage.open(echo());
    for (const headers of [
      { 'E2b-Sandbox-Id': 'iunknown', 'E2b-Sandbox-Port': '80' },
      { Host: '80-iunknown.example' },
    ]) {
      const answer = await new Promise<IncomingMessage>((resolve) => get(stage.server.edgeUrl, { headers }, resolve));
      assert.equal(answer.statusCode, 502);
      assert.equal(answer.headers['access-control-allow-origin'], '*');
      assert.deepEqual(JSON.parse(await text(answer)), {
        sandboxId: 'iunknown',
        message: 'The sandbox was not found',
        code: 502,
        error_code: 'sandbox_not_found',
      });
    }
    await stage.fetch('/');
    await stage.server.api(`/sandboxes/${stage.sandboxId}`, { method: 'DELETE' });
    assert.equal((await stage.fetch('/')).status, 502);
  });

  test("is a 503 when the host's proxy is not there", async () => {
    await using stage = await Stage.open(echo());
    await stage.host[Symbol.asyncDispose]();
    const answer = await stage.fetch('/');
    assert.equal(answer.status, 503);
    assert.equal(edgeError.parse(await answer.json()).error_code, 'host_unavailable');
    const upload = await stage.fetch('/', { method: 'POST', body: Buffer.alloc(4_000_000) });
    assert.equal(upload.status, 503);
  });

  test('does not lead to routes of the guest agent that only the host may call', async () => {
    const seen: IncomingMessage[] = [];
    await using stage = await Stage.open(echo(seen));
    const head = `Host: 49983-${stage.sandboxId}.x\r\nConnection: close\r\n\r\n`;
    for (const path of [
      '/init',
      '/./init',
      '//init',
      '/%69nit',
      '/x/../snapshot//prepare?x',
      'http://x/freeze',
      '/%2569nit',
    ])
      assert.match(await stage.raw(`POST ${path} HTTP/1.1\r\nContent-Length: 0\r\n${head}`), /^HTTP\/1\.1 404 /, path);
    assert.equal(seen.length, 0);
    assert.match(await stage.raw(`GET /health HTTP/1.1\r\n${head}`), /^HTTP\/1\.1 200 /);
    assert.equal((await stage.fetch('/init')).status, 200);
  });

  test('asks for the traffic token when traffic is not public, but not on the port of the guest agent', async () => {
    const seen: IncomingMessage[] = [];
    await using stage = await Stage.open(echo(seen), { allowPublicTraffic: false });
    for (const headers of [{}, { 'e2b-traffic-access-token': '' }, { 'e2b-traffic-access-token': 'wrong' }]) {
      const answer = await stage.fetch('/', { headers });
      assert.equal(answer.status, 403);
      assert.equal(edgeError.parse(await answer.json()).sandboxId, stage.sandboxId);
    }
    assert.equal((await stage.fetch('/', {}, 49_983)).status, 200);
    assert.equal((await stage.fetch('/', { headers: { 'e2b-traffic-access-token': stage.trafficToken } })).status, 200);
    assert.equal(seen.length, 2);
    assert.equal(seen.at(-1)?.headers['e2b-traffic-access-token'], undefined, 'the guest does not learn the token');
  });
});

describe('HTTP through the edge', () => {
  test('keeps headers as they are, repeated ones too, and takes off what belongs to one connection', async () => {
    const seen: IncomingMessage[] = [];
    await using stage = await Stage.open((incoming, response) => {
      seen.push(incoming);
      response.writeHead(207, 'Quite Fine', [
        ...['Set-Cookie', 'a=1', 'Set-Cookie', 'b=2', 'X-Case', 'Kept', 'X-Umlaut', '\xfc'],
        ...['Connection', 'keep-alive, X-Hop', 'X-Hop', 'secret', 'Date', 'yesterday', 'Content-Length', '2'],
      ]);
      // As bytes: node would write a string's headers in the string's encoding.
      response.end(Buffer.from('ok'));
    });
    const answer = await stage.raw(
      [
        'GET / HTTP/1.1',
        `Host: ${stage.hostName}`,
        'X-Case: Kept',
        'X-Twice: 1',
        'X-Twice: 2',
        'X-Hop: secret',
        'TE: trailers',
        'Keep-Alive: timeout=5',
        'Proxy-Authorization: Basic eA==',
        'Authorization: Basic dXNlcjo=',
        'Connection: close, X-Hop',
        '\r\n',
      ].join('\r\n'),
    );
    const sent = seen[0];
    assert.deepEqual(sent?.rawHeaders, [
      ...['Host', stage.hostName, 'X-Case', 'Kept', 'X-Twice', '1', 'X-Twice', '2'],
      ...['Authorization', 'Basic dXNlcjo='],
    ]);
    const [head, body] = answer.split('\r\n\r\n');
    assert.equal(body, 'ok');
    assert.deepEqual(head?.split('\r\n'), [
      'HTTP/1.1 207 Quite Fine',
      'Set-Cookie: a=1',
      'Set-Cookie: b=2',
      'X-Case: Kept',
      'X-Umlaut: \xfc',
      'Date: yesterday',
      'Content-Length: 2',
      'Connection: close',
    ]);
  });

  test('passes every method, with and without a body, and says each time how the body ends', async () => {
    const seen: { method: string | undefined; te: string | undefined; length: string | undefined; body: string }[] = [];
    await using stage = await Stage.open(async (incoming, response) => {
      seen.push({
        method: incoming.method,
        te: incoming.headers['transfer-encoding'],
        length: incoming.headers['content-length'],
        body: await text(incoming),
      });
      response.end('done');
    });
    const start = (method: string) => `${method} / HTTP/1.1\r\nHost: ${stage.hostName}\r\nConnection: close\r\n`;
    for (const method of ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'PROPFIND']) {
      for (const rest of [
        '\r\n',
        'Content-Length: 2\r\n\r\nhi',
        'Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n',
      ]) {
        const answer = await stage.raw(start(method) + rest);
        assert.match(answer, /^HTTP\/1\.1 200 /, `${method} ${JSON.stringify(rest)}`);
        const last = seen.at(-1);
        assert.equal(last?.method, method);
        assert.equal(last?.body, rest === '\r\n' ? '' : 'hi', `${method} ${JSON.stringify(rest)}`);
        if (rest.startsWith('Content')) assert.deepEqual([last?.length, last?.te], ['2', undefined]);
        if (rest.startsWith('Transfer')) assert.deepEqual([last?.length, last?.te], [undefined, 'chunked']);
      }
    }
  });

  test('answers without a body stay without one', async () => {
    await using stage = await Stage.open((incoming, response) => {
      if (incoming.method === 'HEAD') response.writeHead(200, { 'Content-Length': '12345' });
      else response.writeHead(incoming.url?.endsWith('/204') ? 204 : 304, { ETag: '"x"' });
      response.end();
    });
    const headAnswer = await stage.fetch('/', { method: 'HEAD' });
    assert.equal(headAnswer.headers.get('content-length'), '12345');
    for (const status of [204, 304]) assert.equal((await stage.fetch(`/${status}`)).status, status);
  });

  test('a preflight goes to the guest, which decides', async () => {
    await using stage = await Stage.open((_incoming, response) =>
      response.writeHead(204, { 'Access-Control-Allow-Origin': 'https://app.example' }).end(),
    );
    const answer = await stage.fetch('/', { method: 'OPTIONS', headers: { 'Access-Control-Request-Method': 'PUT' } });
    assert.equal(answer.status, 204);
    assert.equal(answer.headers.get('access-control-allow-origin'), 'https://app.example');
  });

  test('32 MiB go up and down unchanged', async () => {
    await using stage = await Stage.open(echo());
    const sent = Buffer.alloc(32 * 1024 * 1024, 'nestbox ');
    const answer = await stage.fetch('/', { method: 'POST', body: sent });
    assert.ok(sent.equals(Buffer.from(await answer.arrayBuffer())));
  });

  test('an event stream gets its head and each event through at once', async () => {
    const open: PassThrough[] = [];
    await using stage = await Stage.open((_incoming, response) => {
      response.writeHead(200, { 'Content-Type': 'text/event-stream' });
      response.flushHeaders();
      const events = new PassThrough();
      events.pipe(response);
      open.push(events);
    });
    const answer = await stage.fetch('/');
    assert.equal(answer.headers.get('content-type'), 'text/event-stream');
    const reader = answer.body?.pipeThrough(new TextDecoderStream()).getReader();
    for (const event of ['one', 'two']) {
      open[0]?.write(event);
      assert.equal((await reader?.read())?.value, event);
    }
    open[0]?.end();
    assert.equal((await reader?.read())?.done, true);
  });

  test('connections to the proxy are used again', async () => {
    const ports = new Set<Socket>();
    await using stage = await Stage.open((incoming, response) => {
      ports.add(incoming.socket);
      response.end('x');
    });
    for (let i = 0; i < 5; i++) await (await stage.fetch('/')).text();
    assert.equal(ports.size, 1);
  });

  test('a kept connection that the proxy closes at the wrong moment costs no request', async () => {
    let served = 0;
    await using stage = await Stage.open((incoming, response) => {
      served += 1;
      // The second request on a connection dies with it, as if it had crossed the proxy's close.
      if (served === 2) incoming.socket.destroy();
      else response.end('fine');
    });
    assert.equal(await (await stage.fetch('/')).text(), 'fine');
    assert.equal(await (await stage.fetch('/')).text(), 'fine');
    assert.equal(served, 3);
  });

  test('a client that goes away ends the request in the guest, whether it waits, reads or sends', async () => {
    const closed: string[] = [];
    const arrived = new EventTarget();
    await using stage = await Stage.open((incoming, response) => {
      const name = incoming.headers['x-name'];
      response.once('close', () => {
        closed.push(String(name));
        arrived.dispatchEvent(new Event('closed'));
      });
      if (name === 'reads') response.write('some');
      incoming.on('error', () => {});
      incoming.resume();
      arrived.dispatchEvent(new Event('open'));
    });
    for (const [name, rest] of [
      ['waits', 'Content-Length: 0\r\n\r\n'],
      ['reads', 'Content-Length: 0\r\n\r\n'],
      ['sends', 'Content-Length: 1000\r\n\r\nx'],
      ['sends chunks', 'Transfer-Encoding: chunked\r\n\r\n5\r\nab'],
    ] as const) {
      for (const leave of ['end', 'reset'] as const) {
        const socket = await stage.socket();
        socket.resume().on('error', () => {});
        const open = once(arrived, 'open');
        socket.write(`POST / HTTP/1.1\r\nHost: ${stage.hostName}\r\nX-Name: ${name}\r\n${rest}`);
        await open;
        const gone = once(arrived, 'closed');
        if (leave === 'end') socket.end();
        else socket.resetAndDestroy();
        await gone;
        socket.destroy();
        assert.equal(closed.at(-1), name);
      }
    }
    assert.equal((await fetch(`${stage.server.apiUrl}/health`)).status, 204);
  });

  test('a guest that dies in the middle of its answer breaks the answer and does not end it', async () => {
    await using stage = await Stage.open((incoming, response) => {
      response.writeHead(200, incoming.url?.endsWith('/length') ? { 'Content-Length': '100' } : {});
      response.write('half', () => incoming.socket.destroy());
    });
    for (const path of ['/length', '/chunked'])
      await assert.rejects(async () => (await stage.fetch(path)).text(), path);
  });

  test('a guest that answers before it has read the body gets its answer through', async () => {
    await using stage = await Stage.open((incoming, response) => {
      response.writeHead(413, { Connection: 'close' }).end('too much', () => incoming.destroy());
    });
    const socket = await stage.socket();
    socket.on('error', () => {});
    socket.write(`POST / HTTP/1.1\r\nHost: ${stage.hostName}\r\nContent-Length: 1000000000\r\n\r\nbegin`);
    const [first] = await once(socket, 'data');
    assert.match(String(first), /^HTTP\/1\.1 413 /);
    socket.destroy();
  });

  test('a slow reader holds the guest back', async () => {
    const chunk = Buffer.alloc(1024 * 1024);
    const held = Promise.withResolvers<number>();
    await using stage = await Stage.open(async (_incoming, response) => {
      for (let sent = 1; ; sent++) {
        if (sent > 256) held.resolve(sent);
        if (response.destroyed) return;
        if (!response.write(chunk)) {
          const drained = once(response, 'drain').then(() => true);
          // Buffers of kernel and edge take a few MiB; then nothing moves until the reader does.
          const stuck = new Promise<false>((resolve) => setTimeout(resolve, 500, false));
          if (!(await Promise.race([drained.catch(() => true), stuck]))) return held.resolve(sent);
        }
      }
    });
    const socket = await stage.socket();
    socket.pause();
    socket.on('error', () => {});
    socket.write(`GET / HTTP/1.1\r\nHost: ${stage.hostName}\r\n\r\n`);
    assert.ok((await held.promise) < 64, 'the guest was stopped after a few MiB');
    socket.destroy();
  });

  test('what is not clear HTTP is refused: two lengths, two codings, oversized heads', async () => {
    const seen: IncomingMessage[] = [];
    await using stage = await Stage.open(echo(seen));
    const start = `POST / HTTP/1.1\r\nHost: ${stage.hostName}\r\n`;
    for (const [bytes, status] of [
      [`${start}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`, 400],
      [`${start}Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcd`, 400],
      [`${start}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n`, 400],
      [`${start}Content-Length: 4x\r\n\r\nabcd`, 400],
      [`${start}X: a\0b\r\n\r\n`, 400],
      [`${start}Bad Name: x\r\n\r\n`, 400],
      ['nonsense\r\n\r\n', 400],
      [`${start}X: ${'x'.repeat(70_000)}\r\n\r\n`, 431],
    ] as const) {
      const answer = await stage.raw(bytes);
      assert.ok(
        answer.startsWith(`HTTP/1.1 ${status} `),
        `${JSON.stringify(bytes.slice(-60))}: ${answer.slice(0, 40)}`,
      );
      assert.equal(edgeError.parse(JSON.parse(answer.split('\r\n\r\n')[1] ?? '')).code, status);
    }
    assert.equal(seen.length, 0);
  });

  test('a guest that breaks HTTP gets its caller a 502, and the edge goes on', async () => {
    await using stage = await Stage.open((incoming) => {
      const kind = incoming.url?.split('/').at(-1);
      const answers: Record<string, string> = {
        garbage: 'this is not HTTP\r\n\r\n',
        switched: 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n',
        low: 'HTTP/1.1 042 Low\r\nContent-Length: 0\r\n\r\n',
        both: 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
        silent: '',
      };
      incoming.socket.end(answers[kind ?? ''] ?? '');
    });
    for (const kind of ['garbage', 'switched', 'low', 'both', 'silent']) {
      const answer = await stage.fetch(`/${kind}`);
      assert.ok(answer.status === 502 || answer.status === 503, `${kind}: ${answer.status}`);
      await answer.text();
    }
  });
});

describe('upgrades through the edge', () => {
  /** Lets the host's proxy answer upgrades like an application that echoes bytes. */
  function echoUpgrades(proxy: Server, seen: IncomingMessage[] = [], greeting = ''): void {
    proxy.on('upgrade', (incoming: IncomingMessage, socket: Socket, head: Buffer) => {
      seen.push(incoming);
      socket.on('error', () => {});
      socket.write(
        `HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\nX-App: yes\r\n\r\n${greeting}`,
      );
      if (head.length > 0) socket.write(head);
      socket.pipe(socket);
    });
  }

  test('a WebSocket talks both ways, and closes with its code', async () => {
    const { WebSocket, WebSocketServer } = await import('ws');
    await using stage = await Stage.open(echo());
    const sockets = new WebSocketServer({ server: stage.host.proxy });
    sockets.on('connection', (socket, incoming) => {
      socket.send(`path ${incoming.url}`);
      socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
    });
    const client = new WebSocket(`${stage.server.edgeUrl.replace('http', 'ws')}/live?x=1`, {
      headers: stage.routing(),
    });
    const messages: Buffer[] = [];
    const all = Promise.withResolvers<void>();
    const large = Buffer.alloc(3_000_000, 7);
    client.on('message', (data: Buffer) => {
      messages.push(data);
      if (messages.length === 3) all.resolve();
    });
    await once(client, 'open');
    client.send('hello');
    client.send(large);
    await all.promise;
    assert.equal(messages[0]?.toString(), `path /proxy/${stage.sandboxId}/8080/live?x=1`);
    assert.equal(messages[1]?.toString(), 'hello');
    assert.ok(messages[2]?.equals(large));
    const serverSide = [...sockets.clients][0];
    serverSide?.close(4001, 'bye');
    const [code, reason] = await once(client, 'close');
    assert.deepEqual([code, String(reason)], [4001, 'bye']);
    sockets.close();
  });

  test('bytes that come along with the head on either side are the first to arrive', async () => {
    const seen: IncomingMessage[] = [];
    await using stage = await Stage.open(echo());
    echoUpgrades(stage.host.proxy, seen, 'welcome ');
    const socket = await stage.socket();
    socket.write(
      `GET /t HTTP/1.1\r\nHost: ${stage.hostName}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: echo\r\nX-Mine: 1\r\n\r\nearly`,
    );
    socket.end(' late');
    const answer = await text(socket);
    const [head, body] = answer.split('\r\n\r\n');
    assert.match(head ?? '', /^HTTP\/1\.1 101 Switching Protocols\r\n/);
    assert.match(head ?? '', /X-App: yes/);
    assert.equal(body, 'welcome early late', 'an end of one direction leaves the other one open');
    assert.equal(seen[0]?.headers.upgrade, 'echo');
    assert.equal(seen[0]?.headers['x-mine'], '1');
    assert.equal(seen[0]?.url, `/proxy/${stage.sandboxId}/8080/t`);
  });

  test('a refusal of the application is its answer to the client', async () => {
    await using stage = await Stage.open((_incoming, response) =>
      response.writeHead(418, { 'X-App': 'yes' }).end('no sockets here'),
    );
    const answer = await stage.raw(
      `GET / HTTP/1.1\r\nHost: ${stage.hostName}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n`,
    );
    assert.match(answer, /^HTTP\/1\.1 418 /);
    assert.match(answer, /no sockets here$/);
  });

  test('errors come as HTTP too: no sandbox, bad address, no proxy, no token', async () => {
    await using stage = await Stage.open(echo(), { allowPublicTraffic: false });
    const ask = (host: string, more = '') =>
      stage.raw(`GET / HTTP/1.1\r\nHost: ${host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n${more}\r\n`);
    assert.match(await ask('80-iunknown.x'), /^HTTP\/1\.1 502 .*"sandboxId":"iunknown"/s);
    assert.match(await ask('nothing'), /^HTTP\/1\.1 400 /);
    assert.match(await ask(stage.hostName), /^HTTP\/1\.1 403 /);
    await stage.host[Symbol.asyncDispose]();
    const token = `e2b-traffic-access-token: ${stage.trafficToken}\r\n`;
    assert.match(await ask(stage.hostName, token), /^HTTP\/1\.1 503 /);
  });

  test('when one side is gone the other one goes, whichever it is', async () => {
    await using stage = await Stage.open(echo());
    const upstream: Socket[] = [];
    stage.host.proxy.on('upgrade', (_incoming, socket: Socket) => {
      socket.on('error', () => {});
      socket.resume();
      upstream.push(socket);
      socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n');
    });
    const open = async () => {
      const socket = await stage.socket();
      socket.on('error', () => {});
      socket.write(`GET / HTTP/1.1\r\nHost: ${stage.hostName}\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n`);
      await once(socket, 'data');
      const guest = upstream.at(-1);
      assert.ok(guest !== undefined);
      return { socket, guest };
    };
    const first = await open();
    const guestEnded = once(first.guest, 'end');
    first.socket.resetAndDestroy();
    await guestEnded;

    const second = await open();
    const clientEnded = once(second.socket, 'end');
    second.socket.resume();
    second.guest.destroy();
    await clientEnded;
    second.socket.end();

    const third = await open();
    const stopped = once(third.socket, 'end');
    third.socket.resume();
    await stage.server.stop();
    await stopped;
    third.socket.destroy();
  });

  test('an offer of HTTP/2 in clear text is answered in HTTP/1.1', async () => {
    const seen: IncomingMessage[] = [];
    await using stage = await Stage.open(echo(seen));
    const answer = await new Promise<IncomingMessage>((resolve) => {
      request(
        stage.server.edgeUrl,
        {
          method: 'POST',
          headers: {
            ...stage.routing(),
            Connection: 'Upgrade, HTTP2-Settings',
            Upgrade: 'h2c',
            'HTTP2-Settings': 'AAM',
          },
        },
        resolve,
      ).end('body');
    });
    assert.equal(answer.statusCode, 200);
    assert.equal(await text(answer), 'body');
    assert.equal(seen[0]?.headers.upgrade, undefined);
    assert.equal(seen[0]?.headers['http2-settings'], undefined);
  });
});

describe('a proxy at a host and port', () => {
  test('is reached like one at a unix socket', async () => {
    await using host = await new HostDouble().open();
    const seen: string[] = [];
    const proxy = createServer((incoming, response) => {
      seen.push(incoming.url ?? '');
      response.end('over TCP');
    }).listen(0, '127.0.0.1');
    await once(proxy, 'listening');
    const address = proxy.address();
    assert.ok(typeof address === 'object' && address !== null);
    try {
      const proxyAddress = { host: '127.0.0.1', port: address.port };
      await using server = await startTestServer([host], { hosts: [{ ...host.connection, proxyAddress }] });
      const created = await server.send('POST', '/v2/sandboxes', { templateID: 'base' });
      const { sandboxID } = z.object({ sandboxID: z.string() }).parse(await created.json());
      const headers = { 'E2b-Sandbox-Id': sandboxID, 'E2b-Sandbox-Port': '80' };
      assert.equal(await (await fetch(`${server.edgeUrl}/x`, { headers })).text(), 'over TCP');
      assert.deepEqual(seen, [`/proxy/${sandboxID}/80/x`]);
    } finally {
      proxy.closeAllConnections();
      proxy.close();
    }
  });
});
