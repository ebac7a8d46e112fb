import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { Agent, type IncomingMessage } from 'node:http';
import { connect, createServer, type Socket } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { describe, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathOf, portOf, raw, SANDBOX_ID, startApp, startProxy } from './testing/proxy-under-test.ts';

const MIB = 1024 * 1024;
const content = randomBytes(5 * MIB + 12_345);
const digest = digestOf(content);

function digestOf(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** An application that answers each connection with the same bytes, cut as it is told to, whatever it is asked. */
async function startRawApp(t: TestContext, answer: (socket: Socket) => Promise<void>): Promise<number> {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', () => void answer(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  return portOf(server);
}

function chunked(bytes: Buffer, size: number): Buffer {
  const parts: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += size) {
    const part = bytes.subarray(at, at + size);
    parts.push(Buffer.from(`${part.length.toString(16)}\r\n`), part, Buffer.from('\r\n'));
  }
  return Buffer.concat([...parts, Buffer.from('0\r\n\r\n')]);
}

const LENGTH_HEAD = `HTTP/1.1 200 OK\r\nContent-Length: ${content.length}\r\n\r\n`;
const CHUNKED_HEAD = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n';

/** Where a connection that is used again would wait for ever. */
const SOON = { timeout: 10_000 };

describe('a large answer', () => {
  for (const [framing, headers] of [
    ['a length', { 'content-length': content.length }],
    ['chunks', {}],
  ] as const)
    test(`with ${framing} arrives unchanged, several at once and one after the other`, async (t) => {
      const { ask, activities } = await startProxy(t);
      const app = await startApp(t, (_incoming, response) => {
        response.writeHead(200, headers);
        for (let at = 0; at < content.length; at += 60_001) response.write(content.subarray(at, at + 60_001));
        response.end();
      });
      const agent = new Agent({ keepAlive: true, maxSockets: 4 });
      t.after(() => agent.destroy());
      for (let round = 0; round < 3; round++) {
        const answers = await Promise.all(Array.from({ length: 4 }, () => ask(pathOf(app.port, '/'), { agent })));
        for (const { response, body } of answers) {
          assert.equal(response.complete, true);
          assert.equal(digestOf(body), digest);
        }
      }
      assert.deepEqual(activities, { begun: 12, open: 0 });
    });

  test('arrives unchanged wherever its head is cut, behind an interim answer too', async (t) => {
    const { ask } = await startProxy(t);
    for (const [head, body] of [
      [LENGTH_HEAD, content],
      [CHUNKED_HEAD, chunked(content, 77_777)],
      [`HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n${LENGTH_HEAD}`, content],
    ] as const) {
      const cuts = [0, 1, head.length - 4, head.length - 3, head.length - 2, head.length - 1, head.length];
      for (const cut of [...cuts, head.length + 1, head.length + 3]) {
        const message = Buffer.concat([Buffer.from(head), body]);
        const port = await startRawApp(t, async (socket) => {
          socket.setNoDelay();
          if (cut > 0) socket.write(message.subarray(0, cut));
          await sleep(15);
          socket.write(message.subarray(cut));
        });
        const { response, body: came } = await ask(pathOf(port, '/'));
        assert.equal(response.statusCode, 200);
        assert.equal(digestOf(came), digest, `cut at ${cut} of ${head.length}`);
      }
    }
  });

  test('of many small chunks arrives unchanged', async (t) => {
    const { ask } = await startProxy(t);
    const small = content.subarray(0, 300_000);
    const message = Buffer.concat([Buffer.from(CHUNKED_HEAD), chunked(small, 7)]);
    const port = await startRawApp(t, async (socket) => {
      socket.write(message);
    });
    const { body } = await ask(pathOf(port, '/'));
    assert.equal(digestOf(body), digestOf(small));
  });

  test('in fits and starts keeps its bytes apart from those of others, however slowly they are read', async (t) => {
    const { open } = await startProxy(t);
    const bytesOf = (seed: number) => Buffer.from(content.map((byte) => byte ^ seed));
    const app = await startApp(t, async (incoming, response) => {
      const bytes = bytesOf(Number(incoming.url?.slice(1)));
      let at = 0;
      for (const size of [10, 300_000, 100, 50_000, 2000, 400_000, 1, 20_000, 900_000, 30, 700_000]) {
        response.write(bytes.subarray(at, at + size));
        at += size;
        await sleep(3);
      }
      response.end(bytes.subarray(at));
    });
    const agent = new Agent({ keepAlive: true, maxSockets: 6 });
    t.after(() => agent.destroy());
    await Promise.all(
      Array.from({ length: 12 }, async (_, seed) => {
        const outgoing = open(pathOf(app.port, `/${seed}`), { agent });
        outgoing.end();
        const [response]: IncomingMessage[] = await once(outgoing, 'response');
        assert.ok(response);
        const hash = createHash('sha256');
        for await (const piece of response) {
          hash.update(piece);
          if (seed % 3 === 0) await sleep(1);
        }
        assert.equal(hash.digest('hex'), digestOf(bytesOf(seed)), `answer ${seed}`);
      }),
    );
  });

  test('in chunks leaves its connection to the next request; what an application says behind it is no answer', async (t) => {
    const { ask } = await startProxy(t);
    const ports: (number | undefined)[] = [];
    const app = await startApp(t, (incoming, response) => {
      ports.push(incoming.socket.remotePort);
      response.write(content);
      response.end();
    });
    for (let round = 0; round < 3; round++) await ask(pathOf(app.port, '/'));
    assert.equal(new Set(ports).size, 1);

    let connections = 0;
    const port = await startRawApp(t, async (socket) => {
      connections += 1;
      socket.write(`${CHUNKED_HEAD}2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged`);
    });
    for (let round = 0; round < 2; round++) {
      const { body } = await ask(pathOf(port, '/'));
      assert.equal(body.toString(), 'ok');
    }
    assert.equal(connections, 2);
  });

  test('with a length ends where it says, whatever follows', async (t) => {
    const { ask } = await startProxy(t);
    const port = await startRawApp(t, async (socket) => {
      socket.write(LENGTH_HEAD);
      socket.write(content);
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged');
    });
    for (let round = 0; round < 2; round++) assert.equal(digestOf((await ask(pathOf(port, '/'))).body), digest);
  });

  for (const [what, message] of [
    ['of a length', `${LENGTH_HEAD}${'x'.repeat(MIB)}`],
    ['of chunks', `${CHUNKED_HEAD}200000\r\n${'x'.repeat(MIB)}`],
    ['whose last chunk has no end', `${CHUNKED_HEAD}100000\r\n${'x'.repeat(MIB)}\r\n0\r\n`],
  ] as const)
    test(`${what} looks cut to the client when the application breaks it off`, async (t) => {
      const { open, activities } = await startProxy(t);
      const port = await startRawApp(t, async (socket) => {
        socket.end(message);
      });
      const outgoing = open(pathOf(port, '/'));
      outgoing.end();
      const [response]: IncomingMessage[] = await once(outgoing, 'response');
      assert.ok(response);
      await assert.rejects(buffer(response), /aborted/);
      assert.equal(response.complete, false);
      while (activities.open > 0) await sleep(5);
    });

  test('whose chunks are none looks cut too', async (t) => {
    const { socketPath } = await startProxy(t);
    const port = await startRawApp(t, async (socket) => {
      socket.write(`${CHUNKED_HEAD}5\r\nhello\r\n`);
      await sleep(30);
      socket.write('nonsense\r\n0\r\n\r\n');
    });
    const answer = await raw(socketPath, `GET ${pathOf(port, '/')} HTTP/1.1\r\nHost: a\r\n\r\n`);
    assert.match(answer, /^HTTP\/1\.1 200 OK\r\n/);
    assert.match(answer, /hello\r\n$/);
  });

  test('is no longer made when its client is gone', async (t) => {
    const { open, activities } = await startProxy(t);
    const { promise: closed, resolve } = Promise.withResolvers<void>();
    const app = await startApp(t, (_incoming, response) => {
      response.writeHead(200, { 'content-length': 2 ** 40 });
      const piece = Buffer.alloc(64 * 1024);
      const fill = () => {
        while (!response.destroyed && response.write(piece));
        response.once('drain', fill);
      };
      fill();
      response.once('close', resolve);
    });
    const outgoing = open(pathOf(app.port, '/'));
    outgoing.on('error', () => {}).end();
    const [response]: IncomingMessage[] = await once(outgoing, 'response');
    response?.on('error', () => {});
    await once(response ?? outgoing, 'readable');
    outgoing.destroy();
    await closed;
    while (activities.open > 0) await sleep(5);
  });

  test('waits with its application for a slow client, and then goes on', async (t) => {
    const { open } = await startProxy(t);
    const long = 96 * MIB;
    let written = 0;
    const { promise: stuck, resolve: isStuck } = Promise.withResolvers<void>();
    const app = await startApp(t, (_incoming, response) => {
      response.writeHead(200, { 'content-length': long });
      const piece = Buffer.alloc(64 * 1024, 'y');
      const fill = () => {
        while (written < long) {
          written += piece.length;
          if (response.write(piece)) continue;
          const timer = setTimeout(isStuck, 300);
          response.once('drain', () => {
            clearTimeout(timer);
            fill();
          });
          return;
        }
        response.end();
      };
      fill();
    });
    const outgoing = open(pathOf(app.port, '/'));
    outgoing.end();
    const [response]: IncomingMessage[] = await once(outgoing, 'response');
    assert.ok(response);
    response.pause();
    await stuck;
    assert.ok(written < 64 * MIB, `${written} bytes were taken from the application`);
    assert.equal((await buffer(response)).length, long);
  });

  for (const [what, head, size] of [
    ['a length', LENGTH_HEAD, content.length],
    ['chunks', `${CHUNKED_HEAD}${content.length.toString(16)}\r\n`, content.length],
  ] as const)
    test(`with ${what} breaks off with its sandbox, for a client that reads nothing too`, async (t) => {
      const { open, proxy, activities } = await startProxy(t);
      const { promise: closed, resolve } = Promise.withResolvers<void>();
      const port = await startRawApp(t, async (socket) => {
        socket.once('close', () => resolve());
        socket.write(head);
        socket.write(content.subarray(0, size - 1));
      });
      const outgoing = open(pathOf(port, '/'));
      outgoing.end();
      const [response]: IncomingMessage[] = await once(outgoing, 'response');
      assert.ok(response);
      await sleep(50);
      proxy.dropSandbox(SANDBOX_ID);
      await closed;
      await assert.rejects(buffer(response), /aborted/);
      assert.equal(response.complete, false);
      while (activities.open > 0) await sleep(5);
    });

  test('in chunks comes bare to a client of HTTP/1.0, and the connection ends with it', async (t) => {
    const { socketPath } = await startProxy(t);
    const app = await startApp(t, (_incoming, response) => {
      response.write(content);
      response.end();
    });
    const socket = connect(socketPath);
    socket.write(`GET ${pathOf(app.port, '/')} HTTP/1.0\r\nHost: a\r\n\r\n`);
    const answer = await buffer(socket);
    const end = answer.indexOf('\r\n\r\n') + 4;
    assert.doesNotMatch(answer.toString('latin1', 0, end), /transfer-encoding/i);
    assert.equal(digestOf(answer.subarray(end)), digest);
  });

  test('of a length to HEAD, or with a status without a body, has none', async (t) => {
    const { ask } = await startProxy(t);
    const app = await startApp(t, (incoming, response) => {
      response.writeHead(incoming.method === 'HEAD' ? 200 : 304, { 'content-length': content.length });
      response.end();
    });
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    t.after(() => agent.destroy());
    for (const [method, status] of [
      ['HEAD', 200],
      ['GET', 304],
      ['HEAD', 200],
    ] as const) {
      const { response, body } = await ask(pathOf(app.port, '/'), { method, agent });
      assert.equal(response.statusCode, status);
      assert.equal(body.length, 0);
    }
  });

  for (const [method, head] of [
    ['HEAD', 'HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n'],
    ['GET', 'HTTP/1.1 304 Not Modified\r\n\r\n'],
    ['GET', 'HTTP/1.1 204 No Content\r\n\r\n'],
    ['GET', 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n'],
  ] as const)
    test(`that follows one without a body is no answer (${method}, ${head.slice(9, 12)})`, SOON, async (t) => {
      const { ask } = await startProxy(t);
      let connections = 0;
      const port = await startRawApp(t, async (socket) => {
        connections += 1;
        socket.write(`${head}HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged`);
      });
      for (let round = 1; round <= 2; round++) {
        const { body } = await ask(pathOf(port, '/'), { method });
        assert.equal(body.length, 0);
        assert.equal(connections, round);
      }
    });
});
