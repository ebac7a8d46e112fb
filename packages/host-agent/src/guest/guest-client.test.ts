import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type RequestListener } from 'node:http';
import { createServer as createTcpServer } from 'node:net';
import { text } from 'node:stream/consumers';
import { describe, type TestContext, test } from 'node:test';
import { Code, ConnectError, type ConnectRouter } from '@connectrpc/connect';
import { connectNodeAdapter } from '@connectrpc/connect-node';
import { GUEST_RESTORE } from '@nestbox/contract';
import { Filesystem, FileType } from '@nestbox/contract/filesystem';
import { Process, Signal } from '@nestbox/contract/process';
import { createGuestClient, type GuestClient } from './guest-client.ts';
import { GuestError, type GuestErrorKind } from './guest-error.ts';
import { timestampNow } from './host-clock.ts';

async function startGuest(
  t: TestContext,
  handler: RequestListener,
  accessToken?: string,
): Promise<{ guest: GuestClient; port: number }> {
  const server = createServer(handler);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  const guest = createGuestClient({ address: '127.0.0.1', port: address.port, accessToken });
  t.after(() => {
    guest.close();
    server.closeAllConnections();
    server.close();
  });
  return { guest, port: address.port };
}

const rpcGuest = (t: TestContext, routes: (router: ConnectRouter) => void, accessToken?: string) =>
  startGuest(t, connectNodeAdapter({ routes }), accessToken);

function ofKind(kind: GuestErrorKind, pattern = /./) {
  return (error: unknown) => error instanceof GuestError && error.kind === kind && pattern.test(error.message);
}

describe('waiting until the guest agent is ready', () => {
  test('takes refused connections and unwell answers for "not yet"', async (t) => {
    const answers = [503, 500, 204];
    const parked = createTcpServer();
    parked.listen(0, '127.0.0.1');
    await once(parked, 'listening');
    const address = parked.address();
    assert.ok(address !== null && typeof address === 'object');
    await new Promise((resolve) => parked.close(resolve));
    const guest = createGuestClient({ address: '127.0.0.1', port: address.port, accessToken: undefined });
    t.after(() => guest.close());

    const ready = guest.waitUntilReady(60_000);
    // The port opens only after the first refusal.
    await assert.rejects(guest.checkHealth(1000), ofKind('unreachable', /ECONNREFUSED/));
    const server = createServer((_request, response) => {
      response.writeHead(answers.shift() ?? 204).end();
    });
    server.listen(address.port, '127.0.0.1');
    t.after(() => {
      server.closeAllConnections();
      server.close();
    });
    await ready;
    assert.deepEqual(answers, []);
  });

  test('ends at its own deadline and at the caller’s signal', async (t) => {
    const { guest } = await startGuest(t, () => {});
    await assert.rejects(guest.waitUntilReady(50), ofKind('deadline', /within 50 ms/));
    const caller = new AbortController();
    const waiting = guest.waitUntilReady(60_000, caller.signal);
    caller.abort();
    await assert.rejects(waiting, ofKind('aborted'));
  });
});

const names = GUEST_RESTORE.headers;

describe('init', () => {
  test('says in headers the time, a new lifecycle id each time, and who the sandbox is', async (t) => {
    const seen: IncomingHttpHeaders[] = [];
    const { guest } = await startGuest(
      t,
      (request, response) => {
        assert.deepEqual([request.method, request.url], ['POST', GUEST_RESTORE.path]);
        seen.push(request.headers);
        response.writeHead(204, { 'X-Envd-Version': '0.6.13' }).end();
      },
      'a token: 100 %',
    );
    const init = {
      sandboxId: 'i1',
      templateId: 't1',
      envVars: { A: 'b\r\nX: ü' },
      defaultUser: 'user',
      defaultWorkdir: '/w',
    };
    assert.deepEqual(await guest.init(init), { envdVersion: '0.6.13' });
    await guest.init({ envVars: {} });
    await guest.init({});
    const [first = {}, second = {}, third = {}] = seen;
    assert.ok(Math.abs(Number(first[names.time]) / 1000 - Date.now()) < 10_000);
    assert.notEqual(first[names.lifecycleId], second[names.lifecycleId]);
    assert.equal(Buffer.from(String(first[names.entropy]), 'base64').length, 64);
    assert.notEqual(first[names.entropy], second[names.entropy]);
    const told = (headers: IncomingHttpHeaders, name: string) =>
      headers[name] && decodeURIComponent(String(headers[name]));
    assert.deepEqual(
      [names.accessToken, names.sandboxId, names.templateId, names.defaultUser, names.defaultWorkdir].map((name) =>
        told(first, name),
      ),
      ['a token: 100 %', 'i1', 't1', 'user', '/w'],
    );
    assert.deepEqual(JSON.parse(told(first, names.envVars) ?? ''), init.envVars);
    assert.deepEqual([second[names.envVars], third[names.envVars]], ['', undefined], 'none, and as they are');
  });

  for (const status of [404, 401])
    test(`sends a body to a guest agent that answers ${status} to headers: it is from before there were any`, async (t) => {
      const asked: (string | undefined)[] = [];
      const { guest } = await startGuest(t, (request, response) => {
        asked.push(request.url);
        response.writeHead(request.url === GUEST_RESTORE.path ? status : 204).end();
      });
      await guest.init({});
      assert.deepEqual(asked, [GUEST_RESTORE.path, '/init']);
    });

  test('sends what is too much for headers as a body: the time in nanoseconds, a new lifecycle id, who the sandbox is', async (t) => {
    const bodies: Record<string, unknown>[] = [];
    const { guest } = await startGuest(
      t,
      async (request, response) => {
        bodies.push(JSON.parse(await text(request)));
        response.writeHead(204, { 'X-Envd-Version': '0.6.13' }).end();
      },
      'token',
    );
    const envVars = { A: 'x'.repeat(GUEST_RESTORE.maxBytes) };
    const init = { sandboxId: 'i1', templateId: 't1', envVars, defaultUser: 'user', defaultWorkdir: '/w' };
    assert.deepEqual(await guest.init(init), { envdVersion: '0.6.13' });
    await guest.init({ envVars });
    const [first, second] = bodies;
    const { timestamp, lifecycle_id, entropy, ...rest } = first ?? {};
    assert.match(String(timestamp), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$/);
    assert.notEqual(lifecycle_id, second?.lifecycle_id);
    assert.equal(Buffer.from(String(entropy), 'base64').length, 64);
    assert.notEqual(entropy, second?.entropy);
    assert.deepEqual(rest, {
      accessToken: 'token',
      sandbox_id: 'i1',
      template_id: 't1',
      envVars,
      defaultUser: 'user',
      defaultWorkdir: '/w',
    });
    assert.deepEqual(
      Object.keys(second ?? {}).sort((a, b) => a.localeCompare(b)),
      ['accessToken', 'entropy', 'envVars', 'lifecycle_id', 'timestamp'],
    );
  });

  test('that the guest refuses is an error with status and body', async (t) => {
    const { guest } = await startGuest(t, (_request, response) => {
      response.writeHead(401).end('access token validation failed');
    });
    await assert.rejects(guest.init({}), (error: unknown) => {
      assert.ok(error instanceof GuestError);
      assert.deepEqual([error.kind, error.status, error.body], ['rejected', 401, 'access token validation failed']);
      return true;
    });
  });

  test('tells the time of the wall clock', () => {
    const before = Date.now();
    const told = Date.parse(timestampNow());
    assert.ok(told >= before - 5 && told <= Date.now() + 5, `${told} is not ${before}`);
  });
});

describe('the two pools', () => {
  test('never share a connection, and each uses its own again', async (t) => {
    const ports = { unary: new Set<number>(), streaming: new Set<number>() };
    const { guest } = await startGuest(t, (request, response) => {
      const kind = request.url?.startsWith('/files') === true ? 'streaming' : 'unary';
      ports[kind].add(request.socket.remotePort ?? 0);
      request.resume();
      request.once('end', () => response.writeHead(kind === 'unary' ? 204 : 200).end());
    });
    for (let i = 0; i < 3; i++) {
      await guest.checkHealth(10_000);
      await guest.writeFile('/x', 'content');
      (await guest.readFile('/x')).resume();
    }
    assert.equal(ports.unary.size, 1);
    for (const port of ports.unary) assert.equal(ports.streaming.has(port), false);
    guest.closeIdleConnections();
    await guest.checkHealth(10_000);
    assert.equal(ports.unary.size, 2);
  });
});

test('after an init only the connection that it came by is used again', async (t) => {
  const ports: (number | undefined)[] = [];
  const { guest } = await startGuest(t, (request, response) => {
    ports.push(request.socket.remotePort);
    request.resume();
    request.once('end', () => response.writeHead(request.url?.startsWith('/files') === true ? 200 : 204).end());
  });
  await guest.writeFile('/x', 'content');
  await guest.checkHealth(10_000);
  await guest.init({});
  await guest.checkHealth(10_000);
  await guest.writeFile('/x', 'content');
  const [streaming, unary, init, next, last] = ports;
  assert.equal(next, init);
  assert.ok(last !== streaming && last !== unary, 'the guest has closed those');
});

describe('files', () => {
  test('are written as one multipart field and read as a stream, as root unless told otherwise', async (t) => {
    const seen: { url: string; token: string | undefined; body: string }[] = [];
    const { guest } = await startGuest(
      t,
      async (request, response) => {
        seen.push({
          url: request.url ?? '',
          token: header(request, 'x-access-token'),
          body: await text(request),
        });
        response.end(request.method === 'GET' ? 'content' : '[]');
      },
      'token',
    );
    async function* pieces() {
      yield Buffer.from('one ');
      yield Buffer.from('two');
    }
    await guest.writeFile('/a b/ü', pieces());
    await guest.writeFile('/empty', new Uint8Array(), { user: 'user' });
    assert.equal(await text(await guest.readFile('/a&b')), 'content');
    assert.deepEqual(
      seen.map(({ url }) => url),
      [
        '/files?path=%2Fa+b%2F%C3%BC&username=root',
        '/files?path=%2Fempty&username=user',
        '/files?path=%2Fa%26b&username=root',
      ],
    );
    assert.match(
      seen[0]?.body ?? '',
      /^--(nestbox-\w+)\r\nContent-Disposition: form-data; name="file"; filename="file"\r\n[^\r]+\r\n\r\none two\r\n--\1--\r\n$/,
    );
    assert.match(seen[1]?.body ?? '', /octet-stream\r\n\r\n\r\n--nestbox-/);
    assert.equal(seen[0]?.token, 'token');
  });

  test('that the guest refuses are errors with status and body', async (t) => {
    const { guest } = await startGuest(t, (request, response) => {
      request.resume();
      response.writeHead(507).end('{"code":507,"message":"not enough disk space available"}');
    });
    for (const call of [guest.writeFile('/x', Buffer.alloc(300_000)), guest.readFile('/x')])
      await assert.rejects(
        call,
        (error: unknown) =>
          error instanceof GuestError &&
          error.status === 507 &&
          /answered 507: not enough disk space/.test(error.message),
      );
  });

  test('that break off half-way never look whole', async (t) => {
    const { guest } = await startGuest(t, (request, response) => {
      response.writeHead(200, { 'content-length': 100 });
      response.write('half');
      request.once('end', () => response.destroy());
      request.resume();
    });
    await assert.rejects(text(await guest.readFile('/x')));
  });

  test('are listed, made and removed by the filesystem service', async (t) => {
    const users: (string | null)[] = [];
    const { guest } = await rpcGuest(t, (router) => {
      router.service(Filesystem, {
        listDir: ({ path, depth }, { requestHeader }) => {
          users.push(requestHeader.get('authorization'));
          if (path === '/nope') throw new ConnectError('path not found', Code.NotFound);
          return {
            entries: [
              {
                name: 'a',
                path: `${path}/a`,
                type: FileType.DIRECTORY,
                size: BigInt(depth),
                mode: 0o755,
                owner: 'root',
                group: 'root',
              },
            ],
          };
        },
        makeDir: ({ path }) => {
          if (path === '/there') throw new ConnectError('exists', Code.AlreadyExists);
          return {};
        },
        remove: () => ({}),
      });
    });
    assert.deepEqual(await guest.listDir('/d', { depth: 3, user: 'user' }), [
      { name: 'a', path: '/d/a', type: 'directory', sizeBytes: 3, mode: 0o755, owner: 'root', group: 'root' },
    ]);
    assert.deepEqual(users, [`Basic ${Buffer.from('user:').toString('base64')}`]);
    await assert.rejects(
      guest.listDir('/nope'),
      (error: unknown) => error instanceof GuestError && error.kind === 'rejected' && error.rpcCode === Code.NotFound,
    );
    assert.equal(await guest.makeDir('/new'), true);
    assert.equal(await guest.makeDir('/there'), false);
    await guest.remove('/d');
  });
});

describe('processes', () => {
  test('run with their arguments, and with env, cwd and time limit only when given', async (t) => {
    const starts: unknown[] = [];
    const { guest } = await rpcGuest(t, (router) => {
      router.service(Process, {
        async *start({ process, stdin, pty }, { timeoutMs }) {
          starts.push({
            cmd: process?.cmd,
            args: process?.args,
            envs: process?.envs,
            cwd: process?.cwd,
            stdin,
            pty,
            limited: timeoutMs() !== undefined,
          });
          yield { event: { event: { case: 'start', value: { pid: 42 } } } };
          yield {
            event: { event: { case: 'data', value: { output: { case: 'stdout', value: Buffer.from([0, 255]) } } } },
          };
          yield { event: { event: { case: 'data', value: { output: { case: 'stderr', value: Buffer.from('e') } } } } };
          yield { event: { event: { case: 'end', value: { exitCode: 3, exited: true, error: 'exit status 3' } } } };
        },
        sendSignal({ process, signal }) {
          assert.equal(signal, Signal.SIGKILL);
          if (process?.selector.value === 7) throw new ConnectError('no such process', Code.NotFound);
          return {};
        },
      });
    });
    const result = await guest.exec({ cmd: 'ls', args: ['-l'], cwd: '' });
    assert.deepEqual(result, {
      stdout: Buffer.from([0, 255]),
      stderr: Buffer.from('e'),
      exitCode: 3,
      error: 'exit status 3',
    });
    await guest.exec({ cmd: 'ls', env: { A: 'b' }, cwd: '/w', timeoutMs: 60_000 });
    assert.deepEqual(starts, [
      { cmd: 'ls', args: ['-l'], envs: {}, cwd: undefined, stdin: false, pty: undefined, limited: false },
      { cmd: 'ls', args: [], envs: { A: 'b' }, cwd: '/w', stdin: false, pty: undefined, limited: true },
    ]);
    assert.equal(await guest.killProcess(42), true);
    assert.equal(await guest.killProcess(7), false);
  });

  test('on a terminal get all input in order, however the calls overlap, and a failure reaches those it concerns', async (t) => {
    let typed = '';
    let calls = 0;
    const { guest } = await rpcGuest(t, (router) => {
      router.service(Process, {
        async *start({ pty }) {
          yield { event: { event: { case: 'start', value: { pid: 9 } } } };
          yield {
            event: {
              event: {
                case: 'data',
                value: { output: { case: 'pty', value: Buffer.from(`${pty?.size?.cols}x${pty?.size?.rows}`) } },
              },
            },
          };
          yield { event: { event: { case: 'end', value: { exitCode: 0, exited: true } } } };
        },
        async sendInput({ process, input }) {
          assert.equal(process?.selector.value, 9);
          calls += 1;
          const data = Buffer.from(input?.input.value ?? []).toString();
          if (data.includes('!')) throw new ConnectError('closed', Code.Internal);
          await new Promise((resolve) => setImmediate(resolve));
          typed += data;
          return {};
        },
        update: ({ pty }) => {
          typed += `[${pty?.size?.cols}x${pty?.size?.rows}]`;
          return {};
        },
      });
    });
    const terminal = await guest.startTerminal({ cmd: '/bin/bash', size: { cols: 80, rows: 24 } });
    assert.equal(terminal.pid, 9);
    const letters = Array.from({ length: 200 }, (_, i) => String.fromCharCode(97 + (i % 26)));
    await Promise.all(letters.map((letter) => terminal.sendInput(Buffer.from(letter))));
    assert.equal(typed, letters.join(''));
    assert.ok(calls < letters.length, 'what waits goes together');
    await assert.rejects(terminal.sendInput(Buffer.from('!')), ofKind('rejected', /closed/));
    await terminal.sendInput(Buffer.from('z'));
    await terminal.resize({ cols: 100, rows: 30 });
    assert.ok(typed.endsWith('z[100x30]'));
    const events = [];
    for await (const event of terminal.events)
      events.push('data' in event ? Buffer.from(event.data).toString() : event.kind);
    assert.deepEqual(events, ['80x24', 'end']);
  });
});

describe('the guest’s own state', () => {
  test('memory preload is waited for until it no longer runs', async (t) => {
    const states = ['running', 'done'];
    const { guest } = await startGuest(t, (request, response) => {
      if (request.method === 'POST') {
        response.writeHead(204).end();
        return;
      }
      const state = states.shift() ?? 'idle';
      response.end(JSON.stringify({ state, regions: 1, pages: 2, bytes: 3, elapsed_sec: 0.1, source: 'mem' }));
    });
    await guest.startMemoryPreload();
    assert.equal((await guest.waitForMemoryPreload()).state, 'done');
    await guest.cancelMemoryPreload();
    await guest.prepareSnapshot();
  });

  test('an answer of another form is an error, and so is one without end', async (t) => {
    const { guest } = await startGuest(t, (request, response) => {
      if (request.url === '/metrics') response.end('{"ts":"now"}');
      else {
        // A hostile guest: only as much is read as an answer may have.
        const pour = () => {
          while (response.write(Buffer.alloc(65_536, 'x')));
          response.once('drain', pour);
        };
        pour();
      }
    });
    await assert.rejects(guest.metrics(), ofKind('protocol', /another form/));
    await assert.rejects(guest.activity(), ofKind('protocol'));
  });
});

function header(request: IncomingMessage, name: string): string | undefined {
  const value = request.headers[name];
  return typeof value === 'string' ? value : undefined;
}
