import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { resolvePaths } from '@nestbox/kit';
import { announceServer } from '../server/server-file.ts';
import { startStubApi } from '../testing/stub-api.ts';
import { AdminApi } from './admin-api.ts';

test('the token of the state folder goes to the server that runs on it and to no other', async (t) => {
  const stateDir = await mkdtemp(join(tmpdir(), 'nestbox-admin-'));
  t.after(() => rm(stateDir, { recursive: true, force: true }));
  const paths = resolvePaths({ NESTBOX_DIR: stateDir });
  const shown: (string | undefined)[] = [];
  const { apiUrl } = await startStubApi(t, (request, response) => {
    shown.push(request.headers['x-admin-token']?.toString());
    response.end('[]');
  });
  await assert.rejects(AdminApi.open({}, paths), { code: 'server_not_running' });
  await announceServer(paths, { apiUrl, sandboxUrl: 'http://127.0.0.1:1', version: '1' });
  await writeFile(join(stateDir, 'api-key'), 'e2b_local\n');
  await assert.rejects(AdminApi.open({}, paths), { code: 'unauthorized', message: /admin-token/ });
  await writeFile(join(stateDir, 'admin-token'), 'local\n');
  await (await AdminApi.open({}, paths)).listTeams();

  const elsewhere = { E2B_API_URL: apiUrl, E2B_API_KEY: 'e2b_env' };
  await assert.rejects(AdminApi.open(elsewhere, paths), { code: 'unauthorized', message: /NESTBOX_ADMIN_TOKEN/ });
  await (await AdminApi.open({ ...elsewhere, NESTBOX_ADMIN_TOKEN: 'theirs' }, paths)).listTeams();
  assert.deepEqual(shown, ['local', 'theirs']);
});
