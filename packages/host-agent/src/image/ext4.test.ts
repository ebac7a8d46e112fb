import assert from 'node:assert/strict';
import { chown, mkdir, readdir, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { runCommand } from '@nestbox/kit';
import { makeExt4 } from './ext4.ts';
import { temporaryFolder } from './testing/temporary-folder.ts';

async function debugfs(image: string, request: string): Promise<string> {
  const { stdout } = await runCommand('debugfs', ['-R', request, image]);
  return stdout;
}

const root = { skip: process.geteuid?.() !== 0 && 'needs root to give files to other users' };

test('a folder becomes a file system with its content, owners, modes and links', root, async (t) => {
  const folder = await temporaryFolder(t);
  const tree = join(folder, 'tree');
  await mkdir(join(tree, 'home/user'), { recursive: true });
  await writeFile(join(tree, 'home/user/note'), 'hello\n', { mode: 0o600 });
  await chown(join(tree, 'home/user/note'), 1000, 1001);
  await symlink('user', join(tree, 'home/alias'));
  const path = join(folder, 'root.ext4');
  await makeExt4({ path, tree, sizeBytes: 64 * 2 ** 20, label: 'test', journal: true });

  await runCommand('e2fsck', ['-fn', path]);
  assert.equal(await debugfs(path, 'cat /home/user/note'), 'hello\n');
  const details = await debugfs(path, 'stat /home/user/note');
  assert.match(details, /Mode:\s+0600/);
  assert.match(details, /User:\s+1000\s+Group:\s+1001/);
  assert.match(await debugfs(path, 'stat /home/alias'), /Fast link dest: "user"/);
});

test('a large empty file system takes little room', async (t) => {
  const folder = await temporaryFolder(t);
  const path = join(folder, 'large.ext4');
  await makeExt4({ path, sizeBytes: 20 * 2 ** 30, label: 'large', journal: true });
  const { size, blocks } = await stat(path);
  assert.equal(size, 20 * 2 ** 30);
  assert.ok(blocks * 512 < 32 * 2 ** 20, `${blocks * 512} bytes`);
});

test('no inode table is left for the guest to zero', async (t) => {
  const folder = await temporaryFolder(t);
  const path = join(folder, 'prezeroed.ext4');
  await makeExt4({ path, sizeBytes: 2 ** 30, label: 'prezeroed', journal: true });
  const { stdout } = await runCommand('dumpe2fs', [path]);
  const groups = stdout.split('\n').filter((line) => /^Group \d+:/.test(line));
  assert.equal(groups.length, 8);
  for (const group of groups) assert.match(group, /ITABLE_ZEROED/);
});

test('content that does not fit is an error that leaves no file', async (t) => {
  const folder = await temporaryFolder(t);
  const tree = join(folder, 'tree');
  await mkdir(tree);
  await writeFile(join(tree, 'large'), Buffer.alloc(24 * 2 ** 20, 1));
  const path = join(folder, 'small.ext4');
  await assert.rejects(makeExt4({ path, tree, sizeBytes: 16 * 2 ** 20, label: 'small', journal: false }), {
    name: 'NestboxError',
  });
  assert.deepEqual(await readdir(folder), ['tree']);
});

test('a file that is there is never overwritten', async (t) => {
  const folder = await temporaryFolder(t);
  const path = join(folder, 'mine');
  await writeFile(path, 'mine');
  await assert.rejects(makeExt4({ path, sizeBytes: 16 * 2 ** 20, label: 'x', journal: false }), { code: 'EEXIST' });
  assert.equal((await stat(path)).size, 4);
  await rm(path);
});
