import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { resolvePaths } from '@nestbox/kit';
import { announceServer, findRunningServer } from './server-file.ts';

async function temporaryPaths(t: TestContext) {
  const stateDir = await mkdtemp(join(tmpdir(), 'nestbox-server-file-'));
  t.after(() => rm(stateDir, { recursive: true, force: true }));
  return resolvePaths({ NESTBOX_DIR: stateDir });
}

const SERVER = { apiUrl: 'http://127.0.0.1:3000', sandboxUrl: 'http://127.0.0.1:3001', version: '1.2.3' };

test('an announced server is found until its announcement is taken back', async (t) => {
  const paths = await temporaryPaths(t);
  assert.equal(findRunningServer(paths), undefined);
  const withdraw = await announceServer(paths, SERVER);
  const found = findRunningServer(paths);
  assert.equal(found?.apiUrl, SERVER.apiUrl);
  assert.equal(found?.pid, process.pid);
  await withdraw();
  assert.equal(findRunningServer(paths), undefined);
});

test('the announcement of a dead server counts for nothing, also when its pid was given to somebody else', async (t) => {
  const paths = await temporaryPaths(t);
  await announceServer(paths, SERVER);
  const file = join(paths.stateDir, 'server.json');
  const content: Record<string, unknown> = JSON.parse(await readFile(file, 'utf8'));

  const { pid: deadPid } = spawnSync('true');
  await writeFile(file, JSON.stringify({ ...content, pid: deadPid }));
  assert.equal(findRunningServer(paths), undefined);

  await writeFile(file, JSON.stringify({ ...content, startTicks: 1 }));
  assert.equal(findRunningServer(paths), undefined);
});

test('a damaged announcement counts for nothing', async (t) => {
  const paths = await temporaryPaths(t);
  for (const content of ['', '{', '[]', '{"pid":1}']) {
    await writeFile(join(paths.stateDir, 'server.json'), content);
    assert.equal(findRunningServer(paths), undefined);
  }
});
