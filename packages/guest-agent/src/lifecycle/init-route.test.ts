import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { startTestAgent, type TestAgent } from '../testing/test-agent.ts';

async function start(t: TestContext): Promise<TestAgent> {
  const agent = await startTestAgent();
  t.after(() => agent[Symbol.asyncDispose]());
  return agent;
}

async function init({ url }: TestAgent, body: unknown): Promise<{ status: number; text: string }> {
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  const response = await fetch(`${url}/init`, { method: 'POST', body: text });
  return { status: response.status, text: await response.text() };
}

const at = (second: number) => `2026-03-04T05:06:${String(second).padStart(2, '0')}.123456789Z`;

test('the first /init may set a token; then only its owner may change, and nobody at random clear it', async (t) => {
  const agent = await start(t);
  const { state } = agent.context;
  assert.equal((await init(agent, { accessToken: 'one' })).status, 204);
  assert.equal(state.accessToken, 'one');
  assert.deepEqual(await init(agent, { accessToken: 'two' }), { status: 401, text: 'access token validation failed' });
  assert.deepEqual(await init(agent, {}), { status: 401, text: 'access token reset not authorized' });
  assert.deepEqual(await init(agent, { accessToken: '' }), { status: 401, text: 'access token reset not authorized' });
  assert.equal((await init(agent, { accessToken: 'one', defaultUser: 'nobody' })).status, 204);
  assert.deepEqual([state.accessToken, state.defaultUser], ['one', 'nobody']);
});

test('an /init that is not newer than the last one is answered, and changes nothing', async (t) => {
  const agent = await start(t);
  const { state } = agent.context;
  await init(agent, { timestamp: at(10), envVars: { A: '1' } });
  for (const timestamp of [at(10), at(9)]) {
    assert.equal((await init(agent, { timestamp, envVars: { A: '2' } })).status, 204);
    assert.equal(state.globalEnv.A, '1');
  }
  await init(agent, { timestamp: at(11), envVars: { A: '3' } });
  assert.equal(state.globalEnv.A, '3');
  await init(agent, { envVars: { A: '4' } });
  assert.equal(state.globalEnv.A, '4', 'without a timestamp it always counts');
});

test('what is empty or absent stays as it was, variables are replaced as a whole', async (t) => {
  const agent = await start(t);
  const { state } = agent.context;
  await init(agent, { defaultUser: 'nobody', defaultWorkdir: '/srv', envVars: { A: '1', B: '2' } });
  await init(agent, { defaultUser: '', defaultWorkdir: null });
  assert.deepEqual([state.defaultUser, state.defaultWorkdir, state.globalEnv.A], ['nobody', '/srv', '1']);
  await init(agent, { envVars: { B: '3' } });
  assert.deepEqual([state.globalEnv.A, state.globalEnv.B], [undefined, '3']);
});

test('the sandbox learns its ids in every spelling, as variables and as files', async (t) => {
  for (const body of [
    { sandbox_id: 'i1', template_id: 't1', proxy_domain: 'example.com', hyperloopIP: '10.0.0.1' },
    { sandboxId: 'i1', templateId: 't1', proxyDomain: 'example.com', hyperloop_ip: '10.0.0.1' },
  ]) {
    const agent = await start(t);
    await init(agent, body);
    const { globalEnv } = agent.context.state;
    for (const prefix of ['E2B', 'NESTBOX', 'WRENN']) {
      assert.equal(globalEnv[`${prefix}_SANDBOX_ID`], 'i1');
      assert.equal(globalEnv[`${prefix}_TEMPLATE_ID`], 't1');
    }
    assert.equal(globalEnv.NESTBOX_PROXY_DOMAIN, 'example.com');
    assert.equal(globalEnv.E2B_EVENTS_ADDRESS, 'http://10.0.0.1');
    assert.equal(await readFile(join(agent.runtimeDir, '.E2B_SANDBOX_ID'), 'utf8'), 'i1');
    assert.equal(await readFile(join(agent.runtimeDir, '.E2B_TEMPLATE_ID'), 'utf8'), 't1');
  }
});

test('a connection from before the snapshot is closed by the restore, and by nothing else', async (t) => {
  const agent = await start(t);
  await init(agent, { lifecycle_id: 'first' });
  const open = async () => {
    const socket = connect(Number(new URL(agent.url).port), '127.0.0.1');
    await once(socket, 'connect');
    socket.write('GET /health HTTP/1.1\r\nHost: a\r\n\r\n');
    await once(socket, 'data');
    return socket;
  };
  const before = await open();
  assert.equal((await fetch(`${agent.url}/snapshot/prepare`, { method: 'POST' })).status, 204);
  const afterwards = await open();
  await init(agent, { lifecycle_id: 'first' });
  assert.equal(before.closed, false);
  const closed = once(before, 'close');
  before.on('error', () => undefined);
  before.resume();
  assert.equal((await init(agent, { lifecycleID: 'second' })).status, 204);
  await closed;
  afterwards.write('GET /health HTTP/1.1\r\nHost: a\r\n\r\n');
  await once(afterwards, 'data');
  afterwards.destroy();
});

test('a body that is not what it should be is refused with the reason', async (t) => {
  const agent = await start(t);
  for (const [body, reason] of [
    ['{', /no JSON/],
    ['[]', /./],
    ['"text"', /./],
    [{ timestamp: 'yesterday' }, /timestamp/],
    [{ envVars: { A: 1 } }, /envVars\.A/],
    [{ accessToken: 5 }, /accessToken/],
    [{ volumeMounts: [{ path: '/x' }] }, /volumeMounts/],
    [{ caBundle: 'no certificate' }, /caBundle/],
    [{ caBundle: '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----' }, /damaged/],
    [{ volumeMounts: [{ nfs_target: 'nonsense', path: '/x' }] }, /could not be mounted at \/x: .*server:\/path/],
    [{ volumeMounts: [{ nfs_target: '127.0.0.1:/x', path: 'relative' }] }, /not absolute/],
  ] as const) {
    const { status, text } = await init(agent, body);
    assert.equal(status, 400, text);
    assert.match(text, reason);
  }
  const oversized = await init(agent, `{"caBundle":"${'x'.repeat(5 * 1024 * 1024)}"}`);
  assert.equal(oversized.status, 413);
  assert.equal((await init(agent, '')).status, 204);
});
