import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { resolvePaths } from '@nestbox/kit';
import { adminTokenPath, apiKeyPath, readOrMakeSecrets } from './secrets.ts';

test('secrets are made once, in the form that the clients expect, and nobody else can read them', async (t) => {
  const stateDir = await mkdtemp(join(tmpdir(), 'nestbox-secrets-'));
  t.after(() => rm(stateDir, { recursive: true, force: true }));
  const paths = resolvePaths({ NESTBOX_DIR: stateDir });

  // Several starts at once agree on one secret.
  const all = await Promise.all(Array.from({ length: 5 }, () => readOrMakeSecrets(paths)));
  const [first] = all;
  assert.match(first?.apiKey ?? '', /^e2b_[0-9a-f]{40}$/);
  assert.match(first?.adminToken ?? '', /^[0-9a-f]{64}$/);
  assert.match(first?.tokenSeed ?? '', /^[0-9a-f]{64}$/);
  for (const secrets of all) assert.deepEqual(secrets, first);
  assert.deepEqual(await readOrMakeSecrets(paths), first);

  assert.equal((await stat(apiKeyPath(paths))).mode & 0o777, 0o600);
  assert.equal((await stat(adminTokenPath(paths))).mode & 0o777, 0o600);
  assert.deepEqual((await readdir(stateDir)).sort(), ['admin-token', 'api-key', 'token-seed']);
});
