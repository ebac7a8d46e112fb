import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { json } from 'node:stream/consumers';
import { type TestContext, test } from 'node:test';
import { NestboxError } from '@nestbox/contract';
import { type Answer, answerByRoute, type SeenRequest, startStubApi } from '../testing/stub-api.ts';
import { ControlApi } from './control-api.ts';

async function serve(t: TestContext, answer: Answer) {
  return new ControlApi(await startStubApi(t, answer));
}

const rejectsWith = (code: string, message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof NestboxError);
  assert.equal(error.code, code);
  assert.match(error.message, message);
  return true;
};

test('a create sends what was asked for, with the key', async (t) => {
  let seen: unknown;
  const api = await serve(t, async (request, response) => {
    seen = [request.method, request.url, request.headers['x-api-key'], await json(request)];
    response.writeHead(201).end(
      JSON.stringify({
        sandboxID: 'i1',
        templateID: 'base',
        clientID: 'c',
        envdVersion: '0.6.13',
        envdAccessToken: 'x',
      }),
    );
  });
  const sandbox = await api.createSandbox({ templateId: 'base', timeoutSec: 60, envVars: { A: '1' } });
  assert.equal(sandbox.envdAccessToken, 'x');
  assert.deepEqual(seen, [
    'POST',
    '/sandboxes',
    'e2b_key',
    {
      templateID: 'base',
      timeout: 60,
      secure: true,
      allow_internet_access: true,
      envVars: { A: '1' },
      metadata: {},
    },
  ]);
});

test('the list goes through all pages', async (t) => {
  const item = (sandboxID: string) => ({
    sandboxID,
    templateID: 't',
    clientID: 'c',
    startedAt: '2026-01-01T00:00:00Z',
    endAt: '2026-01-01T00:05:00Z',
    cpuCount: 1,
    memoryMB: 512,
    diskSizeMB: 1024,
    state: 'running',
    envdVersion: '0.6.13',
  });
  const api = await serve(t, (request, response) => {
    const next = new URL(request.url ?? '', 'http://x').searchParams.get('nextToken');
    if (next === null) response.setHeader('X-Next-Token', 'a&b=');
    response.end(JSON.stringify([item(next === null ? 'first' : `after ${next}`)]));
  });
  assert.deepEqual(
    (await api.listSandboxes()).map(({ sandboxID }) => sandboxID),
    ['first', 'after a&b='],
  );
});

test("the server's own code and words come through; without a code its status tells the kind", async (t) => {
  const answers: [number, string][] = [
    [404, '{"code":404,"error_code":"sandbox_not_found","message":"There is no sandbox x."}'],
    [401, '{"code":401,"message":"no"}'],
    [500, '<html>'],
    [404, '{"code":404,"error_code":"of_a_later_version","message":"new"}'],
  ];
  const api = await serve(t, (_request, response) => {
    const [status, body] = answers.shift() ?? [500, ''];
    response.writeHead(status).end(body);
  });
  await assert.rejects(api.killSandbox('x'), rejectsWith('sandbox_not_found', /^There is no sandbox x\.$/));
  await assert.rejects(api.killSandbox('x'), rejectsWith('unauthorized', /^no$/));
  await assert.rejects(api.killSandbox('x'), rejectsWith('internal', /500.*DELETE/));
  await assert.rejects(api.killSandbox('x'), rejectsWith('not_found', /^new$/));
});

test('an answer of another form is no success', async (t) => {
  const api = await serve(t, (_request, response) => void response.end('{"sandboxID":5}'));
  await assert.rejects(api.createSandbox({ templateId: 'x', timeoutSec: 1 }), rejectsWith('internal', /unknown form/));
});

test('an abort ends a request with its reason', async (t) => {
  const api = await serve(t, () => {
    // Never answers.
  });
  const reason = new Error('enough');
  await assert.rejects(api.listTemplates(AbortSignal.abort(reason)), reason);
});

test('a server that is not there is told with its address', async () => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  assert.ok(typeof address === 'object' && address !== null);
  server.close();
  await once(server, 'close');
  const api = new ControlApi({ apiUrl: `http://127.0.0.1:${address.port}`, sandboxUrl: undefined, apiKey: 'k' });
  const words = new RegExp(`127\\.0\\.0\\.1:${address.port}.*ECONNREFUSED`);
  await assert.rejects(api.listTemplates(), rejectsWith('server_not_running', words));
});

test('what a sandbox is to do at its time-out is sent only when it is asked for', async (t) => {
  const seen: SeenRequest[] = [];
  const sandbox = { sandboxID: 'i1', templateID: 'base', clientID: 'c', envdVersion: '0.6.13' };
  const api = await serve(t, answerByRoute({ 'POST /sandboxes': { status: 201, body: sandbox } }, seen));
  await api.createSandbox({ templateId: 'base', timeoutSec: 1, pause: { memory: false, autoResume: false } });
  const { autoPause, autoPauseMemory, autoResume } = Object(seen[0]?.json);
  assert.deepEqual([autoPause, autoPauseMemory, autoResume], [true, false, { enabled: false }]);
});

test('a connect tells whether the sandbox had been paused', async (t) => {
  const seen: SeenRequest[] = [];
  const body = { sandboxID: 'i1', templateID: 'base', clientID: 'c', envdVersion: '0.6.13' };
  let status = 201;
  const api = await serve(t, answerByRoute({ 'POST /v2/sandboxes/i1/connect': () => ({ status, body }) }, seen));
  assert.equal((await api.connectSandbox('i1', { timeoutSec: 60 })).resumed, true);
  status = 200;
  assert.equal((await api.connectSandbox('i1', { timeoutSec: 60, memory: false })).resumed, false);
  assert.deepEqual(
    seen.map(({ json }) => json),
    [{ timeout: 60 }, { timeout: 60, memory: false }],
  );
});

test('the list of snapshots goes through all pages, with its filter on each', async (t) => {
  const seen: SeenRequest[] = [];
  const api = await serve(
    t,
    answerByRoute(
      {
        'GET /snapshots': ({ query }) =>
          query.get('nextToken') === null
            ? { body: [{ snapshotID: 'a:default', names: [] }], headers: { 'X-Next-Token': 'a&b=' } }
            : { body: [{ snapshotID: 'b:default', names: ['mine'] }] },
      },
      seen,
    ),
  );
  const snapshots = await api.listSnapshots({ sandboxId: 'i1', name: 'm&n' });
  assert.deepEqual(
    snapshots.map(({ snapshotID }) => snapshotID),
    ['a:default', 'b:default'],
  );
  assert.deepEqual(
    seen.map(({ query }) => [query.get('sandboxID'), query.get('name'), query.get('nextToken')]),
    [
      ['i1', 'm&n', null],
      ['i1', 'm&n', 'a&b='],
    ],
  );
});

test('a copy that is neither a sandbox nor an error is no answer', async (t) => {
  const api = await serve(t, answerByRoute({ 'POST /sandboxes/i1/fork': { status: 201, body: [{}] } }));
  await assert.rejects(api.forkSandbox('i1', { count: 1, timeoutSec: 1 }), rejectsWith('internal', /unknown form/));
});
