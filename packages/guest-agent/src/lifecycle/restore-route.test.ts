import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type IncomingHttpHeaders, request } from 'node:http';
import { text } from 'node:stream/consumers';
import { type TestContext, test } from 'node:test';
import { ENVD_VERSION, GUEST_RESTORE } from '@nestbox/contract';
import { startTestAgent, TEST_HOST_ADDRESS, type TestAgent } from '../testing/test-agent.ts';

interface Answer {
  readonly status: number | undefined;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

const names = GUEST_RESTORE.headers;
let time = 1_800_000_000_000_000;

async function start(t: TestContext): Promise<TestAgent> {
  const agent = await startTestAgent();
  t.after(() => agent[Symbol.asyncDispose]());
  return agent;
}

async function restore(
  { url }: TestAgent,
  headers: Record<string, string>,
  { localAddress = TEST_HOST_ADDRESS, method = 'POST' } = {},
): Promise<Answer> {
  const life = { [names.time]: String(++time), [names.lifecycleId]: 'life' };
  const outgoing = request(`${url}${GUEST_RESTORE.path}`, {
    method,
    localAddress,
    agent: false,
    headers: { ...life, ...headers },
  });
  outgoing.end();
  const [response] = await once(outgoing, 'response');
  return { status: response.statusCode, headers: response.headers, body: await text(response) };
}

test('headers say what a body of /init would, whatever characters are in them', async (t) => {
  const agent = await start(t);
  const { state } = agent.context;
  const { status, headers } = await restore(agent, {
    [names.accessToken]: encodeURIComponent('a token: 100 %'),
    [names.envVars]: encodeURIComponent(JSON.stringify({ A: 'ä\r\nX: y', B: '' })),
    [names.defaultUser]: 'nobody',
    [names.defaultWorkdir]: encodeURIComponent('/srv/ö'),
    [names.sandboxId]: 'i1',
    [names.templateId]: 't1',
    [names.proxyDomain]: 'box.example',
    [names.entropy]: Buffer.alloc(64, 7).toString('base64'),
  });
  assert.deepEqual([status, headers['x-envd-version']], [204, ENVD_VERSION]);
  assert.deepEqual(
    [state.accessToken, state.defaultUser, state.defaultWorkdir, state.lifecycleId, state.lastInitAtUs],
    ['a token: 100 %', 'nobody', '/srv/ö', 'life', time],
  );
  assert.partialDeepStrictEqual(state.globalEnv, {
    A: 'ä\r\nX: y',
    B: '',
    E2B_SANDBOX_ID: 'i1',
    NESTBOX_TEMPLATE_ID: 't1',
    NESTBOX_PROXY_DOMAIN: 'box.example',
  });
});

test('a token that is not named is gone, variables that are not named stay, and an empty header clears them', async (t) => {
  const agent = await start(t);
  const { state } = agent.context;
  await restore(agent, { [names.accessToken]: 'one', [names.envVars]: encodeURIComponent('{"A":"1"}') });
  await restore(agent, {});
  assert.deepEqual([state.accessToken, state.globalEnv.A], [undefined, '1']);
  await restore(agent, { [names.envVars]: '' });
  assert.equal(state.globalEnv.A, undefined);
});

test('nobody but the host is told that there is such a route', async (t) => {
  const agent = await start(t);
  const { status } = await restore(agent, { [names.accessToken]: 'mine' }, { localAddress: '127.0.0.3' });
  assert.equal(status, 404);
  assert.equal(agent.context.state.accessToken, undefined);
});

test('what cannot be read is refused with the reason, and changes nothing', async (t) => {
  const agent = await start(t);
  for (const [headers, reason] of [
    [{ [names.time]: 'now' }, /x-nestbox-time-us/],
    [{ [names.lifecycleId]: '' }, /x-nestbox-lifecycle-id/],
    [{ [names.envVars]: '{' }, /x-nestbox-env is no JSON/],
    [{ [names.defaultUser]: '%zz' }, /x-nestbox-user is not percent-encoded/],
  ] as const) {
    const { status, body } = await restore(agent, { [names.accessToken]: 'new', ...headers });
    assert.equal(status, 400);
    assert.match(body, reason);
  }
  assert.equal((await restore(agent, {}, { method: 'GET' })).status, 405);
  assert.equal(agent.context.state.accessToken, undefined);
});
