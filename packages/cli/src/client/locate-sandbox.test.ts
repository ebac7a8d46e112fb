import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { answerByRoute, type SeenRequest, startStubApi } from '../testing/stub-api.ts';
import { SANDBOX, SANDBOX_DETAIL } from '../testing/wire-samples.ts';
import { type LocateOptions, locateSandbox } from './locate-sandbox.ts';

async function locate(t: TestContext, detail: object, options: LocateOptions = {}) {
  const seen: SeenRequest[] = [];
  const routes = {
    'GET /sandboxes/i1': { body: { ...SANDBOX_DETAIL, ...detail } },
    'POST /v2/sandboxes/i1/connect': { status: 201, body: { ...SANDBOX, envdAccessToken: 'new' } },
  };
  const address = await locateSandbox(await startStubApi(t, answerByRoute(routes, seen)), 'i1', options);
  return { token: address.accessToken, asked: seen.map(({ route }) => route.split('/').at(-1)) };
}

test('a sandbox that runs is found without changing its time to live', async (t) => {
  assert.deepEqual(await locate(t, {}), { token: 'secret', asked: ['i1'] });
  assert.deepEqual(await locate(t, {}, { resume: true }), { token: 'secret', asked: ['i1'] });
});

test('a paused one is refused with the command that resumes it, unless it was asked to be resumed', async (t) => {
  await assert.rejects(locate(t, { state: 'paused' }), {
    code: 'sandbox_paused',
    message: /is paused.*nestbox sandbox resume i1.*--resume/,
  });
  assert.deepEqual(await locate(t, { state: 'paused' }, { resume: true }), { token: 'new', asked: ['i1', 'connect'] });
});

test('a paused one that the next request resumes is left to that request', async (t) => {
  const lifecycle = { autoResume: true, onTimeout: 'pause' };
  assert.deepEqual(await locate(t, { state: 'paused', lifecycle }), { token: 'secret', asked: ['i1'] });
});
