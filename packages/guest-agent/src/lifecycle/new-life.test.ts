import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer, request } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { Activity } from '../activity.ts';
import { AgentState } from '../state.ts';
import { envelope, startTestAgent, TEST_HOST_ADDRESS, type TestAgent } from '../testing/test-agent.ts';
import { HostAddresses } from './host-addresses.ts';
import { initRoute } from './init-route.ts';

// An /init with a new lifecycle id: the machine was restored.

async function start(t: TestContext): Promise<TestAgent> {
  const agent = await startTestAgent();
  t.after(() => agent[Symbol.asyncDispose]());
  return agent;
}

async function initFromHost({ url }: TestAgent, body: object, localAddress = TEST_HOST_ADDRESS): Promise<number> {
  const outgoing = request(`${url}/init`, { method: 'POST', localAddress, agent: false });
  outgoing.end(JSON.stringify(body));
  const [response] = await once(outgoing, 'response');
  response.resume();
  return response.statusCode;
}

async function open({ url }: TestAgent): Promise<Socket> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  await once(socket, 'connect');
  socket.write('GET /health HTTP/1.1\r\nHost: a\r\n\r\n');
  await once(socket, 'data');
  socket.on('error', () => undefined);
  socket.resume();
  return socket;
}

test('closes every connection but the one it came by, when the host says so', async (t) => {
  const agent = await start(t);
  await initFromHost(agent, { lifecycle_id: 'first' });
  const others = [await open(agent), await open(agent)];
  await initFromHost(agent, { lifecycle_id: 'first' });
  assert.deepEqual(
    others.map(({ closed }) => closed),
    [false, false],
  );
  const closed = Promise.all(others.map((socket) => once(socket, 'close')));
  assert.equal(await initFromHost(agent, { lifecycle_id: 'second' }), 204);
  await closed;
  (await open(agent)).destroy();
});

test('closes nobody’s connection when it is somebody else who says so', async (t) => {
  const agent = await start(t);
  const other = await open(agent);
  assert.equal(await initFromHost(agent, { lifecycle_id: 'mine' }, '127.0.0.3'), 204);
  other.write('GET /health HTTP/1.1\r\nHost: a\r\n\r\n');
  await once(other, 'data');
  assert.equal(other.closed, false);
  other.destroy();
});

test('does not ask the host for the token, and nobody else gets by without it', async (t) => {
  const agent = await start(t);
  await initFromHost(agent, { accessToken: 'one' });
  assert.equal(await initFromHost(agent, { accessToken: 'two' }, '127.0.0.3'), 401);
  assert.equal(await initFromHost(agent, { accessToken: 'two', lifecycle_id: 'second' }), 204);
  assert.equal(agent.context.state.accessToken, 'two');
});

test('ends streams from before, which no longer count as activity; their processes go on', async (t) => {
  const agent = await start(t);
  const activity = async () => (await fetch(`${agent.url}/activity`)).json();
  const running = await fetch(`${agent.url}/process.Process/Start`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/connect+json' },
    body: envelope({ process: { cmd: '/bin/cat' }, tag: 'from before' }),
  });
  assert.ok(agent.context.activity.lastRequestAtMs > 0);
  await initFromHost(agent, { lifecycle_id: 'second' });
  await assert.rejects(running.arrayBuffer());
  assert.deepEqual(await activity(), { last_request_at_ms: 0, running_processes: 1, open_connections: 0 });
  const end = await fetch(`${agent.url}/process.Process/CloseStdin`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: '{"process":{"tag":"from before"}}',
  });
  assert.equal(end.status, 200);
  assert.equal(agent.context.activity.openRequests, 0, 'the end of an old request takes nothing from the count');
});

test('counts although the host’s clock is behind that of the host before', async (t) => {
  const agent = await start(t);
  await initFromHost(agent, { lifecycle_id: 'first', timestamp: '2026-03-04T05:06:07Z', sandbox_id: 'i1' });
  await initFromHost(agent, { lifecycle_id: 'first', timestamp: '2026-03-04T05:06:06Z', sandbox_id: 'i2' });
  assert.equal(agent.context.state.globalEnv.E2B_SANDBOX_ID, 'i1');
  await initFromHost(agent, { lifecycle_id: 'second', timestamp: '2026-03-04T05:06:06Z', sandbox_id: 'i2' });
  assert.equal(agent.context.state.globalEnv.E2B_SANDBOX_ID, 'i2');
});

test('leaves nothing of the sandbox that the machine was before', async (t) => {
  const agent = await start(t);
  const { state } = agent.context;
  const file = (name: string) => join(agent.runtimeDir, `.${name}`);
  await initFromHost(agent, {
    lifecycle_id: 'first',
    sandbox_id: 'i1',
    template_id: 't1',
    proxy_domain: 'a.example',
    hyperloopIP: '10.0.0.1',
    envVars: { A: '1' },
  });
  await initFromHost(agent, { lifecycle_id: 'resumed' });
  await initFromHost(agent, { lifecycle_id: 'resumed again', sandbox_id: 'i1' });
  assert.equal(state.globalEnv.E2B_TEMPLATE_ID, 't1', 'the same sandbox keeps what is not named again');
  await initFromHost(agent, { lifecycle_id: 'forked', sandbox_id: 'i2' });
  assert.deepEqual(state.globalEnv, {
    A: '1',
    E2B_SANDBOX: 'true',
    E2B_SANDBOX_ID: 'i2',
    NESTBOX_SANDBOX_ID: 'i2',
    WRENN_SANDBOX_ID: 'i2',
  });
  assert.equal(await readFile(file('E2B_SANDBOX_ID'), 'utf8'), 'i2');
  assert.equal(existsSync(file('E2B_TEMPLATE_ID')), false);
});

test('is begun before what takes long, which may fail all the same', async (t) => {
  const agent = await start(t);
  const other = await open(agent);
  const closed = once(other, 'close');
  const body = { lifecycle_id: 'second', sandbox_id: 'i2', caBundle: 'no certificate' };
  assert.equal(await initFromHost(agent, body), 400);
  await closed;
  assert.equal(await readFile(join(agent.runtimeDir, '.E2B_SANDBOX_ID'), 'utf8'), 'i2');
});

test('entropy is taken, and too much of it refused', async (t) => {
  const agent = await start(t);
  const entropy = (bytes: number) => Buffer.alloc(bytes, 1).toString('base64');
  assert.equal(await initFromHost(agent, { lifecycle_id: 'a', entropy: entropy(64) }), 204);
  assert.equal(await initFromHost(agent, { lifecycle_id: 'b', entropy: null }), 204);
  assert.equal(await initFromHost(agent, { lifecycle_id: 'c', entropy: entropy(4096) }), 400);
});

/** Says when the answer to /init came. */
const CLIENT = `
const { request } = require('node:http');
const { parentPort, workerData } = require('node:worker_threads');
const outgoing = request({ host: '127.0.0.1', port: workerData, path: '/init', method: 'POST' });
outgoing.once('response', () => parentPort.postMessage(Date.now()));
outgoing.end('{}');
`;

test('the answer is out before the rest is done', async (t) => {
  const restMs = 500;
  let restDoneAt = 0;
  const finish = () => {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, restMs);
    restDoneAt = Date.now();
  };
  const init = async () => ({ clockUs: undefined, finish });
  const context = { state: new AgentState(), activity: new Activity(), runtimeDir: '/nowhere', isInit: false };
  const route = initRoute({ init }, new HostAddresses([]));
  const server = createServer((incoming, response) => {
    route(incoming, response, new URL('http://localhost/init'), context).catch(() => response.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  const client = new Worker(CLIENT, { eval: true, workerData: (server.address() as AddressInfo).port });
  const [answeredAt] = await once(client, 'message');
  assert.ok(answeredAt < restDoneAt, `answered ${answeredAt - restDoneAt} ms after the rest was done`);
  await client.terminate();
});
