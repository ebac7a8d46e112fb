import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect as connectHttp2, type OutgoingHttpHeaders } from 'node:http2';
import { connect, createServer, type Socket } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { connect as connectTls } from 'node:tls';
import fc from 'fast-check';
import {
  OTHER_SANDBOX_ID,
  type ProxyStack,
  SANDBOX_ID,
  STACK_DOMAIN,
  startApplication,
  startProxyStack,
} from '../support/proxy-stack.ts';

/** What does not end by then hangs. The longest that the edge itself waits is 10 s for a head, looked at every 5 s. */
const HANGS_MS = 20_000;

describe('bad input at the edge', () => {
  let stack: ProxyStack;
  let app: Awaited<ReturnType<typeof startApplication>>;
  const urls: string[] = [];
  before(async () => {
    stack = await startProxyStack();
    app = await startApplication((incoming, response) => {
      urls.push(incoming.url ?? '');
      incoming.on('error', () => {});
      incoming.resume().once('end', () => response.end('reached'));
    });
  });
  after(async () => {
    await stack[Symbol.asyncDispose]();
    await app[Symbol.asyncDispose]();
  });

  /** Sends bytes, ends its side when told to, and answers what comes until the edge closes. */
  async function raw(bytes: string | Buffer, { end = false }: { end?: boolean } = {}): Promise<string> {
    const socket = connect({ port: stack.edgePort, host: '127.0.0.1', allowHalfOpen: true });
    const pieces: Buffer[] = [];
    socket.on('data', (piece) => pieces.push(piece)).on('error', () => {});
    const closed = new Promise<void>((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new Error(`no end: ${JSON.stringify(String(bytes).slice(0, 200))}`)),
        HANGS_MS,
      );
      socket.once('close', () => clearTimeout(timer));
      socket.once('close', resolve);
      socket.once('end', () => socket.end());
    });
    socket.write(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes);
    if (end) socket.end();
    await closed;
    return Buffer.concat(pieces).toString('latin1');
  }

  const statusesOf = (answer: string) =>
    [...answer.matchAll(/HTTP\/1\.1 ([0-9]{3}) /g)].map((match) => Number(match[1]));
  const good = () => stack.host(app.port);

  async function stillWorks(): Promise<void> {
    assert.match(
      await raw(`GET /fine HTTP/1.1\r\nHost: ${good()}\r\nConnection: close\r\n\r\n`),
      /^HTTP\/1\.1 200 [\s\S]*reached/,
    );
  }

  test('host names of every kind lead to the sandbox that they name or nowhere', async () => {
    const nearly = fc.oneof(
      fc.string({ maxLength: 40 }),
      fc.string({ unit: 'binary', maxLength: 40 }),
      fc
        .tuple(
          fc.constantFrom('', '0', '80', '65536', '-1', '00080', '8e1', '0x50', '４９', `${app.port}`, '49983'),
          fc.constantFrom('-', '--', '.', '_', ''),
          fc.constantFrom(
            SANDBOX_ID,
            OTHER_SANDBOX_ID,
            'i',
            '..',
            '%2e%2e',
            `${SANDBOX_ID}%00`,
            `${SANDBOX_ID}-x`,
            'localhost',
            '10.11.0.1',
          ),
          fc.constantFrom('', '.', `.${STACK_DOMAIN}`, '.x:99999', '.x:0', '.a@b', '.x/../y', '.x\\y', '.x#', '.x?'),
        )
        .map((parts) => parts.join('')),
    );
    const named = `${app.port}-${SANDBOX_ID}`;
    await fc.assert(
      fc.asyncProperty(nearly, async (host) => {
        const name = Buffer.from(host.replace(/[\r\n]/g, ''), 'utf8').toString('latin1');
        const seen = urls.length;
        const answer = await raw(`GET /by-host HTTP/1.1\r\nHost: ${name}\r\nConnection: close\r\n\r\n`);
        const [status] = statusesOf(answer);
        assert.ok(
          status !== undefined && [200, 400, 404, 502].includes(status),
          `${JSON.stringify(host)}: ${answer.slice(0, 60)}`,
        );
        // With a client's name behind the id or without.
        const [label = '', ...domain] = name.trim().toLowerCase().split('.');
        const names = domain.length > 0 && [named, `${named}-x`].includes(label);
        assert.equal(urls.length > seen, names, JSON.stringify(host));
      }),
      { numRuns: 150, examples: [[`${named}.x/../y`], [`${named}-x.x/../y`], [`${named}-x`], [`${named}-`]] },
    );
    await stillWorks();
  });

  test('what two programs could read as different requests is refused, and nothing of it comes through', async () => {
    const start = `POST /first HTTP/1.1\r\nHost: ${good()}\r\n`;
    const second = `GET /smuggled HTTP/1.1\r\nHost: ${good()}\r\n\r\n`;
    const chunked = `0\r\n\r\n${second}`;
    const attacks = [
      `${start}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n${chunked}`,
      `${start}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n${chunked}`,
      `${start}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n${chunked}`,
      `${start}Transfer-Encoding: xchunked\r\n\r\n${chunked}`,
      `${start}Transfer-Encoding: chunked, x\r\n\r\n${chunked}`,
      `${start}Transfer-Encoding : chunked\r\n\r\n${chunked}`,
      `${start}Transfer-Encoding:\x0bchunked\r\n\r\n${chunked}`,
      `${start}Transfer-Encoding: "chunked"\r\n\r\n${chunked}`,
      `${start}X: a\r\n Transfer-Encoding: chunked\r\nContent-Length: ${chunked.length}x\r\n\r\n${chunked}`,
      `${start}Content-Length: 5\r\nContent-Length: 6\r\n\r\n${chunked}`,
      `${start}Content-Length: 5, 6\r\n\r\n${chunked}`,
      `${start}Content-Length: +5\r\n\r\n${chunked}`,
      `${start}Content-Length: -5\r\n\r\n${chunked}`,
      `${start}Content-Length: 0x5\r\n\r\n${chunked}`,
      `${start}Content-Length: 99999999999999999999999\r\n\r\n${chunked}`,
      `${start}Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n${second}`,
      `${start}Transfer-Encoding: chunked\r\n\r\n-1\r\n${second}`,
      `${start}Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n${second}`,
      `${start}Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n${second}`,
      `${start}Host: other\r\nContent-Length: 0\r\n\r\n`,
      `${start}X: a\rContent-Length: 5\r\n\r\n${chunked}`,
      `${start}X: a\0b\r\n\r\n`,
      `${start}: empty\r\n\r\n`,
      `${start}Bad Name: x\r\n\r\n`,
      `POST /first  HTTP/1.1\r\nHost: ${good()}\r\n\r\n`,
      `POST /first HTTP/1.1\r\n Host: ${good()}\r\n\r\n`,
      `POST /first HTTP/9.9\r\nHost: ${good()}\r\n\r\n`,
      `GET /first\r\n\r\n`,
      `\x16\x03\x01\x02\x00\x01\x00`,
      'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    ];
    for (const attack of attacks) {
      const seen = urls.length;
      const answer = await raw(attack, { end: true });
      const statuses = statusesOf(answer);
      assert.ok(
        statuses.every((status) => status === 400 || status === 408 || status === 502 || status === 505),
        `${JSON.stringify(attack)}: ${answer.slice(0, 80)}`,
      );
      assert.ok(!urls.slice(seen).includes('/smuggled'), JSON.stringify(attack));
    }
    await stillWorks();
  });

  test('an old-style folded header is refused or passed on as one, never as two', async () => {
    const seen: string[][] = [];
    await using looking = await startApplication((incoming, response) => {
      seen.push(incoming.rawHeaders);
      response.end();
    });
    await raw(
      `GET / HTTP/1.1\r\nHost: ${stack.host(looking.port)}\r\nX-Folded: a\r\n Evil: b\r\nConnection: close\r\n\r\n`,
    );
    for (const headers of seen) assert.ok(!headers.includes('Evil'));
    await stillWorks();
  });

  test('requests for other places than a path of the sandbox go nowhere else', async () => {
    const forms = [
      `/proxy/${OTHER_SANDBOX_ID}/${app.port}/x`,
      `/../../${OTHER_SANDBOX_ID}/${app.port}/x`,
      `/%2e%2e/%2e%2e/proxy/${OTHER_SANDBOX_ID}/80/`,
      '//evil.example/x',
      `http://evil.example/x`,
      '/\\evil.example',
      '/?a=http://x/#y',
    ];
    for (const form of forms) {
      const answer = await raw(`GET ${form} HTTP/1.1\r\nHost: ${good()}\r\nConnection: close\r\n\r\n`);
      assert.deepEqual(statusesOf(answer), [200], form);
      // As it was written, but for the absolute form, of which the path stays.
      assert.equal(urls.at(-1), form.replace('http://evil.example', ''), form);
    }
    for (const line of [
      'GET * HTTP/1.1',
      'OPTIONS * HTTP/1.1',
      'GET ftp://x/y HTTP/1.1',
      'CONNECT 127.0.0.1:22 HTTP/1.1',
    ]) {
      const seen = urls.length;
      const statuses = statusesOf(await raw(`${line}\r\nHost: ${good()}\r\nConnection: close\r\n\r\n`, { end: true }));
      assert.ok(
        statuses.every((status) => status === (line.startsWith('CONNECT') ? 405 : 400)),
        `${line}: ${statuses}`,
      );
      assert.equal(urls.length, seen, line);
    }
    const routing = (id: string, port: string, more = '') =>
      raw(
        `GET /x HTTP/1.1\r\nHost: ${good()}\r\nE2b-Sandbox-Id: ${id}\r\nE2b-Sandbox-Port: ${port}\r\n${more}Connection: close\r\n\r\n`,
      );
    assert.deepEqual(statusesOf(await routing(OTHER_SANDBOX_ID, `${app.port}`)), [502]);
    for (const [id, port, more] of [
      [SANDBOX_ID, '0'],
      [SANDBOX_ID, '80/../81'],
      [`${SANDBOX_ID}/80/x`, '80'],
      ['..', '80'],
      [SANDBOX_ID, '80', `E2b-Sandbox-Id: ${OTHER_SANDBOX_ID}\r\n`],
      [SANDBOX_ID, '80', 'E2b-Sandbox-Port: 81\r\n'],
    ] as const)
      assert.deepEqual(statusesOf(await routing(id, port, more)), [400], `${id} ${port} ${more}`);
  });

  test('heads that come in pieces are put together, and those that are too large are refused', async () => {
    const socket = connect(stack.edgePort, '127.0.0.1');
    const answered = once(socket, 'data');
    for (const byte of `GET /pieces HTTP/1.1\r\nHost: ${good()}\r\n\r\n`) {
      socket.write(byte);
      await new Promise((resolve) => setImmediate(resolve));
    }
    assert.match(String((await answered)[0]), /^HTTP\/1\.1 200 /);
    socket.destroy();
    const start = `GET / HTTP/1.1\r\nHost: ${good()}\r\n`;
    for (const head of [
      `${start}X: ${'x'.repeat(70_000)}\r\n\r\n`,
      `${start}${'X: y\r\n'.repeat(20_000)}\r\n`,
      `GET /${'x'.repeat(70_000)} HTTP/1.1\r\nHost: ${good()}\r\n\r\n`,
    ])
      assert.deepEqual(statusesOf(await raw(head)), [431]);
    // Large, and within the limit.
    const cookies = `${start}Cookie: ${'c'.repeat(40_000)}\r\nConnection: close\r\n\r\n`;
    // The application has its own limit, which for Node is lower.
    assert.deepEqual(statusesOf(await raw(cookies)), [431]);
  });

  test('clients that are slow, stop half-way or close their side end in time and hurt nobody', async () => {
    const begin = `POST /half HTTP/1.1\r\nHost: ${good()}\r\n`;
    const waiting = [
      raw(begin),
      raw(`${begin}Content-Length: 10\r\n\r\nabc`, { end: true }),
      raw(`${begin}Transfer-Encoding: chunked\r\n\r\n5\r\nab`, { end: true }),
      raw('GE', { end: true }),
      raw('', { end: true }),
    ];
    for (let i = 0; i < 20; i++) await stillWorks();
    const [slow] = await Promise.all(waiting);
    assert.deepEqual(statusesOf(slow ?? ''), [408]);
  });

  test('applications that break HTTP are a 502, whatever they send, and a cut answer looks cut', async () => {
    const answers = [
      '',
      'garbage\r\n\r\n',
      'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde',
      'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
      'HTTP/1.1 099 Low\r\nContent-Length: 0\r\n\r\n',
      `HTTP/1.1 200 OK\r\nX: ${'x'.repeat(100_000)}\r\n\r\n`,
      'HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n',
      'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n',
      'HTTP/1.1 200 OK',
      '\x16\x03\x01',
    ];
    let answer = '';
    const broken = createServer((socket: Socket) => {
      socket.on('error', () => {});
      socket.once('data', () => socket.end(Buffer.from(answer, 'latin1')));
    });
    broken.listen(0, '127.0.0.1');
    await once(broken, 'listening');
    const address = broken.address();
    assert.ok(address !== null && typeof address === 'object');
    const ask = `POST / HTTP/1.1\r\nHost: ${stack.host(address.port)}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`;
    for (answer of answers) assert.deepEqual(statusesOf(await raw(ask)), [502], JSON.stringify(answer.slice(0, 60)));
    answer = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab';
    assert.doesNotMatch(await raw(ask), /0\r\n\r\n$/);
    broken.close();
    await stillWorks();
  });

  test('by HTTP/2 too, names, targets and heads that are wrong are refused, and floods of resets are survived', async () => {
    const session = connectHttp2(`https://${good()}`, {
      createConnection: () =>
        connectTls({
          port: stack.frontPort,
          host: '127.0.0.1',
          ca: stack.ca,
          servername: good(),
          ALPNProtocols: ['h2'],
        }),
    });
    session.on('error', () => {});
    const status = (headers: OutgoingHttpHeaders) =>
      new Promise<number | string>((resolve, reject) => {
        const timer = setTimeout(() => reject(new Error(`no end: ${JSON.stringify(headers)}`)), HANGS_MS);
        const stream = session.request({ ':authority': good(), ':path': '/', ...headers });
        stream.once('response', (head) => resolve(Number(head[':status'])));
        stream.once('error', (error: Error & { code?: string }) => resolve(error.code ?? 'error'));
        stream.once('close', () => {
          clearTimeout(timer);
          resolve('closed');
        });
        stream.resume();
      });
    assert.equal(await status({}), 200);
    for (const headers of [
      { ':path': '*' },
      { ':path': 'x' },
      { ':authority': `80-${SANDBOX_ID}x.${STACK_DOMAIN}` },
      { ':authority': `0-${SANDBOX_ID}.${STACK_DOMAIN}` },
      { host: 'other.example' },
      { ':authority': `user@${good()}` },
      { 'e2b-sandbox-id': `${SANDBOX_ID}/80`, 'e2b-sandbox-port': '80' },
    ]) {
      const seen = urls.length;
      const got = await status(headers);
      assert.ok(got === 400 || got === 502 || typeof got === 'string', `${JSON.stringify(headers)}: ${got}`);
      assert.equal(urls.length, seen, JSON.stringify(headers));
    }
    for (const authority of ['evil.example', '127.0.0.1', `${good()}.evil.example`])
      assert.equal(await status({ ':authority': authority }), 421, authority);
    for (let i = 0; i < 300 && !session.destroyed; i++)
      session
        .request({ ':authority': good(), ':path': '/r' })
        .on('error', () => {})
        .close();
    session.destroy();
    await stillWorks();
  });
});
