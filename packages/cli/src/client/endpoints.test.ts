import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { resolvePaths } from '@nestbox/kit';
import { announceServer } from '../server/server-file.ts';
import { findServer, requireServer } from './endpoints.ts';

async function temporaryPaths(t: TestContext) {
  const stateDir = await mkdtemp(join(tmpdir(), 'nestbox-endpoints-'));
  t.after(() => rm(stateDir, { recursive: true, force: true }));
  return resolvePaths({ NESTBOX_DIR: stateDir });
}

const SERVER = { apiUrl: 'http://127.0.0.1:3000', sandboxUrl: 'http://127.0.0.1:3001', version: '1' };

test('the environment names the server before the state folder does', async (t) => {
  const paths = await temporaryPaths(t);
  await announceServer(paths, SERVER);
  await writeFile(join(paths.stateDir, 'api-key'), 'e2b_local\n');
  const env = { E2B_API_URL: 'https://api.example.test/', E2B_API_KEY: 'e2b_env', E2B_SANDBOX_URL: '' };
  assert.deepEqual(await findServer(env, paths), {
    apiUrl: 'https://api.example.test',
    sandboxUrl: undefined,
    apiKey: 'e2b_env',
  });
  assert.deepEqual(await findServer({}, paths), {
    apiUrl: SERVER.apiUrl,
    sandboxUrl: SERVER.sandboxUrl,
    apiKey: 'e2b_local',
    pid: process.pid,
  });
});

test('a server without a key to it is told', async (t) => {
  const paths = await temporaryPaths(t);
  await assert.rejects(findServer({ E2B_API_URL: 'http://x' }, paths), { code: 'unauthorized' });
  await announceServer(paths, SERVER);
  await assert.rejects(findServer({}, paths), { code: 'unauthorized' });
  assert.equal((await findServer({ E2B_API_KEY: 'e2b_env' }, paths))?.apiKey, 'e2b_env');
});

test('a domain names a server when none runs here, and what runs here says how it is reached by TLS', async (t) => {
  const paths = await temporaryPaths(t);
  const env = { E2B_DOMAIN: 'box.example:8443', E2B_API_KEY: 'e2b_env' };
  assert.deepEqual(await findServer(env, paths), {
    apiUrl: 'https://api.box.example:8443',
    sandboxUrl: undefined,
    apiKey: 'e2b_env',
    tls: { domain: 'box.example:8443' },
  });
  await assert.rejects(findServer({ E2B_DOMAIN: 'box.example' }, paths), { code: 'unauthorized' });
  const tls = { domain: 'box.example', authority: { caPath: '/ca.pem', bundlePath: '/bundle.pem' } };
  await announceServer(paths, { ...SERVER, tls });
  const found = await findServer(env, paths);
  assert.deepEqual([found?.apiUrl, found?.tls], [SERVER.apiUrl, tls]);
});

test('no server at all is told with what to do', async (t) => {
  const paths = await temporaryPaths(t);
  assert.equal(await findServer({}, paths), undefined);
  await assert.rejects(requireServer({}, paths), { code: 'server_not_running', message: /nestbox up/ });
});
