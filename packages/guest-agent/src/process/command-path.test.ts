import assert from 'node:assert/strict';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { findCommand } from './command-path.ts';

test('commands are found as execvp finds them', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'nestbox-path-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  await mkdir(join(dir, 'a'));
  await mkdir(join(dir, 'b'));
  await mkdir(join(dir, 'a', 'folder'));
  for (const file of ['a/plain', 'b/tool', 'here']) await writeFile(join(dir, file), '#!/bin/sh\n');
  await chmod(join(dir, 'b/tool'), 0o755);
  await chmod(join(dir, 'here'), 0o755);
  const path = `${dir}/a:${dir}/b`;
  const found = (file: string) => ({ found: true, path: join(dir, file) });
  const failed = (exitCode: number) => ({
    found: false,
    exitCode,
    reason: exitCode === 127 ? 'not found' : 'Permission denied',
  });

  assert.deepEqual(findCommand('tool', path, '/'), found('b/tool'));
  assert.deepEqual(findCommand('plain', path, '/'), failed(126));
  assert.deepEqual(findCommand('folder', path, '/'), failed(126));
  assert.deepEqual(findCommand('nothing', path, '/'), failed(127));
  assert.deepEqual(findCommand('', path, '/'), failed(127));
  assert.deepEqual(findCommand('./here', path, dir), found('here'));
  assert.deepEqual(findCommand('b/tool', '', dir), found('b/tool'));
  assert.deepEqual(findCommand('here', ':/usr', dir), found('here'), 'an empty element is the working directory');
  assert.deepEqual(findCommand(`${dir}/b/tool/x`, path, '/'), failed(127));
  assert.deepEqual(findCommand('a'.repeat(5000), path, '/'), failed(127));
});
