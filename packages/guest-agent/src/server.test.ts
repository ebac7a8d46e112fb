import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { after, afterEach, describe, test } from 'node:test';
import { ENVD_VERSION } from '@nestbox/contract';
import type { CollapseResult } from './memory/collapse.ts';
import type { PreloadStatus } from './memory/preload.ts';
import type { Metrics } from './metrics/metrics.ts';
import { envelope, parseEnvelopes, startTestAgent } from './testing/test-agent.ts';

const agent = await startTestAgent();
after(() => agent[Symbol.asyncDispose]());
const { state } = agent.context;
afterEach(() => {
  state.accessToken = undefined;
});

const call = (path: string, init: Parameters<typeof fetch>[1] = {}) => fetch(`${agent.url}${path}`, init);
const post = (path: string, body: string | Buffer<ArrayBuffer>, headers: Record<string, string>) =>
  call(path, { method: 'POST', body, headers });
/** Reads a JSON answer whose form the test goes on to check. */
const json = async <T>(response: Response | Promise<Response>): Promise<T> => (await (await response).json()) as T;
const START = { process: { cmd: '/bin/echo', args: ['hi'] }, stdin: false };
const STREAM = { 'Content-Type': 'application/connect+json', 'Connect-Protocol-Version': '1' };
const UNARY = { 'Content-Type': 'application/json', 'Connect-Protocol-Version': '1' };
const basic = (user: string) => `Basic ${Buffer.from(`${user}:`).toString('base64')}`;

/** Sends bytes as they are and answers everything that comes back until the connection closes. */
async function raw(text: string | Buffer): Promise<string> {
  const { port } = new URL(agent.url);
  const socket = connect(Number(port), '127.0.0.1');
  await once(socket, 'connect');
  socket.end(text);
  return (await buffer(socket)).toString('latin1');
}

describe('the wire, byte by byte', () => {
  test('a stream is framed JSON with start, data, end and the end of the stream', async () => {
    const response = await post('/process.Process/Start', envelope(START), STREAM);
    assert.equal(response.status, 200);
    assert.equal(response.headers.get('content-type'), 'application/connect+json');
    const frames = parseEnvelopes(Buffer.from(await response.arrayBuffer()));
    const [first] = frames;
    const pid = /"pid":(\d+)/.exec(JSON.stringify(first))?.[1];
    assert.deepEqual(frames, [
      { flags: 0, message: { event: { start: { pid: Number(pid) } } } },
      { flags: 0, message: { event: { data: { stdout: 'aGkK' } } } },
      { flags: 0, message: { event: { end: { exited: true, status: 'exit status 0' } } } },
      { flags: 2, message: {} },
    ]);
  });

  test('an error of a stream is its last frame, with status 200', async () => {
    const response = await post('/process.Process/Connect', envelope({ process: { pid: 4_100_000 } }), STREAM);
    assert.equal(response.status, 200);
    assert.deepEqual(parseEnvelopes(Buffer.from(await response.arrayBuffer())), [
      { flags: 2, message: { error: { code: 'not_found', message: 'process with pid 4100000 not found' } } },
    ]);
  });

  test('unary calls answer JSON, and errors with the status of their code', async () => {
    const ok = await post('/process.Process/List', '{}', UNARY);
    assert.deepEqual([ok.status, ok.headers.get('content-type'), await ok.json()], [200, 'application/json', {}]);
    const missing = await post(
      '/process.Process/SendSignal',
      '{"process":{"tag":"none"},"signal":"SIGNAL_SIGKILL"}',
      UNARY,
    );
    assert.deepEqual(
      [missing.status, await missing.json()],
      [404, { code: 'not_found', message: 'process with tag none not found' }],
    );
    const unimplemented = await post('/process.Process/SendSignal', '{}', UNARY);
    assert.equal(unimplemented.status, 501);
  });

  test('snake_case names, numbers for enums and unknown fields are accepted', async () => {
    const response = await post('/process.Process/SendSignal', '{"process":{"pid":4100000},"signal":9,"new":1}', UNARY);
    assert.equal(response.status, 404);
    const stdin = await post('/process.Process/CloseStdin', '{"process":{"tag":"x"}}', UNARY);
    assert.equal(stdin.status, 404);
  });

  test('malformed frames and bodies are clear errors, and the agent lives', async () => {
    const lastFrame = async (body: Buffer<ArrayBuffer>) => {
      const response = await post('/process.Process/Start', body, STREAM);
      return JSON.stringify(parseEnvelopes(Buffer.from(await response.arrayBuffer())).at(-1));
    };
    assert.match(await lastFrame(envelope('this is no JSON')), /invalid_argument/);
    assert.match(await lastFrame(envelope('{"process":{"cmd":5}}')), /invalid_argument/);
    assert.match(await lastFrame(envelope(START).subarray(0, 20)), /invalid_argument/);
    assert.match(await lastFrame(Buffer.from('short')), /"error"/);
    assert.match(await lastFrame(Buffer.alloc(0)), /"error"/);
    const huge = envelope(START);
    huge.writeUInt32BE(0xffff_ffff, 1);
    assert.match(await lastFrame(huge), /resource_exhausted/);
    assert.match(await lastFrame(Buffer.concat([envelope(START), envelope(START)])), /"error"/);

    assert.equal((await post('/process.Process/List', '{', UNARY)).status, 400);
    assert.equal((await post('/process.Process/List', '{}', { 'Content-Type': 'text/plain' })).status, 415);
    assert.equal((await call('/process.Process/List')).status, 405);
    assert.equal((await post('/process.Process/Nothing', '{}', UNARY)).status, 404);
    assert.equal((await call('/health')).status, 204);
  });

  test('a message larger than 16 MiB is refused before it is read', async () => {
    const body = JSON.stringify({ process: { tag: 'x' }, input: { stdin: 'A'.repeat(17 * 1024 * 1024) } });
    const response = await post('/process.Process/SendInput', body, UNARY);
    assert.deepEqual([response.status, (await json<{ code: string }>(response)).code], [429, 'resource_exhausted']);
  });

  test('rubbish instead of HTTP, absurd targets and hosts are answered, and the agent lives', async () => {
    assert.match(await raw('rubbish\r\n\r\n'), /^HTTP\/1\.1 400 /);
    const close = 'Connection: close\r\n';
    assert.match(await raw(`GET // HTTP/1.1\r\nHost: a\r\n${close}\r\n`), /^HTTP\/1\.1 404 /);
    assert.match(await raw(`GET //health HTTP/1.1\r\nHost: a\r\n${close}\r\n`), /^HTTP\/1\.1 404 /);
    assert.match(await raw(`GET http://[ HTTP/1.1\r\nHost: a\r\n${close}\r\n`), /^HTTP\/1\.1 400 /);
    assert.match(await raw(`GET http://other/health HTTP/1.1\r\nHost: a\r\n${close}\r\n`), /^HTTP\/1\.1 204 /);
    const list = `POST /process.Process/List HTTP/1.1\r\nHost: ]:[\r\nContent-Type: application/json\r\nContent-Length: 2\r\n${close}\r\n{}`;
    assert.match(await raw(list), /^HTTP\/1\.1 200 /);
    assert.match(await raw(list.replace('Host: ]:[\r\n', '').replace('1.1', '1.0')), /^HTTP\/1\.1 200 /);
    assert.match(await raw(`GET /${'a'.repeat(5000)} HTTP/1.1\r\nHost: a\r\n${close}\r\n`), /^HTTP\/1\.1 404 /);
    assert.match(await raw(`GET /__proto__ HTTP/1.1\r\nHost: a\r\n${close}\r\n`), /^HTTP\/1\.1 404 /);
    assert.equal((await call('/health')).status, 204);
  });
});

describe('the access token', () => {
  const UNAUTHORIZED = {
    code: 401,
    message: 'unauthorized access, please provide a valid access token or method signing if supported',
  };

  test('everything is open while there is none', async () => {
    assert.equal((await call('/envs')).status, 200);
  });

  test('every route but the exempt ones wants it, and answers plain HTTP 401 without', async () => {
    state.accessToken = 'secret';
    for (const headers of [
      {},
      { 'X-Access-Token': 'wrong!' },
      { 'X-Access-Token': 'secret2' },
      { 'X-Access-Token': '' },
    ]) {
      for (const path of ['/envs', '/metrics', '/nothing', '/activity']) {
        const response = await call(path, { headers });
        assert.deepEqual([response.status, await response.json()], [401, UNAUTHORIZED], path);
      }
      const compose = await post('/files/compose', '{}', headers);
      assert.equal(compose.status, 401);
      const rpc = await post('/process.Process/Start', envelope(START), { ...STREAM, ...headers });
      assert.deepEqual([rpc.status, await rpc.json()], [401, UNAUTHORIZED]);
    }
    assert.equal((await call('/health')).status, 204);
    assert.equal((await call('/files?path=/etc/passwd')).status, 401, 'files answer for themselves');
    const right = { 'X-Access-Token': 'secret' };
    assert.equal((await call('/envs', { headers: right })).status, 200);
    assert.equal((await post('/process.Process/List', '{}', { ...UNARY, ...right })).status, 200);
  });

  test('it is asked for before the user', async () => {
    state.accessToken = 'secret';
    const response = await call('/envs', { headers: { Authorization: basic('nobody-at-all') } });
    assert.deepEqual(await response.json(), UNAUTHORIZED);
  });
});

describe('CORS', () => {
  test('a preflight is answered for every route, without a token', async () => {
    state.accessToken = 'secret';
    const response = await call('/process.Process/Start', {
      method: 'OPTIONS',
      headers: {
        Origin: 'https://example.com',
        'Access-Control-Request-Method': 'POST',
        'Access-Control-Request-Headers': 'content-type,x-access-token',
      },
    });
    assert.equal(response.status, 204);
    const header = (name: string) => response.headers.get(`access-control-${name}`);
    assert.deepEqual(
      [header('allow-origin'), header('allow-methods'), header('allow-headers'), header('max-age')],
      ['*', 'POST', 'content-type,x-access-token', '7200'],
    );
  });

  test('a method that is not offered is not allowed', async () => {
    const response = await call('/health', {
      method: 'OPTIONS',
      headers: { Origin: 'https://example.com', 'Access-Control-Request-Method': 'BREW' },
    });
    assert.equal(response.headers.get('access-control-allow-methods'), null);
  });

  test('answers, refusals too, can be read by any page', async () => {
    state.accessToken = 'secret';
    for (const path of ['/health', '/envs']) {
      const { headers } = await call(path, { headers: { Origin: 'https://example.com' } });
      assert.equal(headers.get('access-control-allow-origin'), '*');
      const exposed = headers.get('access-control-expose-headers') ?? '';
      for (const name of ['Grpc-Status', 'Grpc-Message', 'Grpc-Status-Details-Bin', 'Location', 'Cache-Control']) {
        assert.ok(exposed.split(', ').includes(name), name);
      }
    }
  });
});

describe('REST', () => {
  test('health is an empty answer that nobody may keep', async () => {
    const response = await call('/health');
    assert.deepEqual(
      [response.status, response.headers.get('cache-control'), await response.text()],
      [204, 'no-store', ''],
    );
  });

  test('an unknown user is refused on every route, in the form of an RPC error', async () => {
    const response = await call('/health', { headers: { Authorization: basic('nobody-at-all') } });
    assert.deepEqual(
      [response.status, await response.json()],
      [401, { code: 'unauthenticated', message: "invalid username: 'nobody-at-all'" }],
    );
    assert.equal((await call('/health', { headers: { Authorization: basic('root') } })).status, 204);
  });

  test('unknown routes and methods are named', async () => {
    const missing = await call('/nothing');
    assert.deepEqual(
      [missing.status, await missing.json()],
      [404, { code: 404, message: 'there is no route /nothing' }],
    );
    assert.equal(missing.headers.get('x-content-type-options'), 'nosniff');
    const method = await call('/init');
    assert.deepEqual([method.status, method.headers.get('allow')], [405, 'POST']);
  });

  test('metrics describe the machine', async () => {
    const metrics = await json<Metrics>(call('/metrics'));
    assert.deepEqual(Object.keys(metrics), [
      'ts',
      'cpu_count',
      'cpu_used_pct',
      'mem_total',
      'mem_used',
      'mem_cache',
      'mem_total_mib',
      'mem_used_mib',
      'disk_used',
      'disk_total',
    ]);
    assert.ok(metrics.cpu_used_pct >= 0 && metrics.cpu_used_pct <= 100);
    assert.ok(metrics.mem_used > 0 && metrics.mem_used < metrics.mem_total);
    assert.ok(metrics.disk_used > 0 && metrics.disk_used < metrics.disk_total);
  });

  test('activity counts running processes and answers in progress, not what the host asks itself', async () => {
    const activity = () =>
      json<{ running_processes: number; open_connections: number; last_request_at_ms: number }>(call('/activity'));
    const before = await activity();
    await call('/health');
    await call('/metrics');
    assert.deepEqual(await activity(), before);
    const running = await post(
      '/process.Process/Start',
      envelope({ process: { cmd: '/bin/cat' }, tag: 'active' }),
      STREAM,
    );
    const during = await activity();
    assert.equal(during.running_processes, 1);
    assert.equal(during.open_connections, 1);
    assert.ok(during.last_request_at_ms > before.last_request_at_ms);
    await post('/process.Process/CloseStdin', '{"process":{"tag":"active"}}', UNARY);
    await running.arrayBuffer();
    assert.equal((await activity()).running_processes, 0);
  });

  test('what cannot be done outside a sandbox, or at all, says so', async () => {
    assert.equal((await call('/freeze', { method: 'POST' })).status, 503);
    assert.equal((await call('/unfreeze', { method: 'POST' })).status, 204);
    assert.equal((await call('/fsfreeze', { method: 'POST' })).status, 503);
    assert.equal((await call('/fsthaw', { method: 'POST' })).status, 503);
    assert.equal((await call('/upgrade', { method: 'POST' })).status, 501);
    assert.equal((await call('/freeze?maxWaitMs=-1', { method: 'POST' })).status, 400);
    assert.equal((await call('/freeze?mode=other', { method: 'POST' })).status, 400);
  });

  test('the memory of the agent can be collapsed', async () => {
    const result = await json<CollapseResult>(call('/collapse', { method: 'POST' }));
    assert.equal(result.chunks, result.collapsed + result.alreadyHuge + result.skipped);
  });

  test('a memory preload is started once, told about, and stopped', async () => {
    assert.equal((await json<PreloadStatus>(call('/memory/preload'))).state, 'idle');
    assert.equal((await call('/memory/preload', { method: 'POST' })).status, 202);
    assert.equal((await call('/memory/preload/cancel', { method: 'POST' })).status, 204);
    const status = await json<PreloadStatus>(call('/memory/preload'));
    assert.ok(['running', 'done', 'failed', 'cancelled'].includes(status.state), status.state);
    assert.equal(status.source, '/proc/kcore');
  });

  test('every answer of /init names the version', async () => {
    for (const body of ['{}', 'rubbish']) {
      const response = await call('/init', { method: 'POST', body });
      assert.equal(response.headers.get('x-envd-version'), ENVD_VERSION);
    }
  });
});
