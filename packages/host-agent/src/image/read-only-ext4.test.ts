import assert from 'node:assert/strict';
import { mkdir, readdir, readFile, symlink, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { runCommand } from '@nestbox/kit';
import { diskTree, folderEntries, hashDiskTree } from './disk-tree.ts';
import { makeReadOnlyExt4 } from './read-only-ext4.ts';
import { temporaryFolder } from './testing/temporary-folder.ts';

const UUID = '00000000-0000-8000-8000-000000000001';
const NAMES = ['agent.mjs', 'lib/libc.so.6', 'lib/ld.so', 'a file with blanks', 'quote"quote', 'empty'];

async function writeTree(folder: string, names: readonly string[], time: Date): Promise<void> {
  for (const name of names) {
    await mkdir(join(folder, name, '..'), { recursive: true });
    await writeFile(join(folder, name), name === 'empty' ? '' : `content of ${name}\n`.repeat(500), {
      mode: name === 'lib/ld.so' ? 0o755 : 0o600,
    });
    await utimes(join(folder, name), time, time);
  }
  await symlink('libc.so.6', join(folder, 'lib/libc.so'));
}

test('the same content gives the same bytes, whatever order and times the host has', async (t) => {
  const folder = await temporaryFolder(t);
  const images: Buffer[] = [];
  for (const [index, names] of [NAMES, NAMES.toReversed()].entries()) {
    const source = join(folder, `source-${index}`);
    await writeTree(source, names, new Date(2020 + index, 1));
    const path = join(folder, `disk-${index}.ext4`);
    await makeReadOnlyExt4({ path, tree: diskTree(await folderEntries(source, '')), label: 'agent', uuid: UUID });
    images.push(await readFile(path));
  }
  assert.ok(images[0]?.equals(images[1] ?? Buffer.alloc(0)));
});

test('files are read back with their content, for everybody, and programs may be run', async (t) => {
  const folder = await temporaryFolder(t);
  const source = join(folder, 'source');
  await writeTree(source, NAMES, new Date());
  const path = join(folder, 'disk.ext4');
  await makeReadOnlyExt4({ path, tree: diskTree(await folderEntries(source, '')), label: 'agent', uuid: UUID });

  const out = join(folder, 'out');
  await mkdir(out);
  await runCommand('debugfs', ['-R', `rdump / ${out}`, path]);
  for (const name of NAMES)
    assert.equal(await readFile(join(out, name), 'utf8'), await readFile(join(source, name), 'utf8'));
  const loader = (await runCommand('debugfs', ['-R', 'stat /lib/ld.so', path])).stdout;
  assert.match(loader, /Mode:\s+0755/);
  assert.match(loader, /User:\s+0\s+Group:\s+0/);
  assert.match((await runCommand('debugfs', ['-R', 'stat /agent.mjs', path])).stdout, /Mode:\s+0644/);
  assert.match(
    (await runCommand('debugfs', ['-R', 'stat /lib/libc.so', path])).stdout,
    /Fast link dest: "libc\.so\.6"/,
  );
});

test('a source that is gone is an error that leaves no image', async (t) => {
  const folder = await temporaryFolder(t);
  const path = join(folder, 'disk.ext4');
  const tree = diskTree([
    { kind: 'file', path: 'lib/gone', source: join(folder, 'gone'), executable: false, sizeBytes: 10 },
  ]);
  await assert.rejects(makeReadOnlyExt4({ path, tree, label: 'agent', uuid: UUID }), { code: 'internal' });
  assert.deepEqual(await readdir(folder), []);
});

test('the hash follows content, places and modes', async (t) => {
  const folder = await temporaryFolder(t);
  await writeTree(folder, ['agent.mjs', 'lib/ld.so'], new Date());
  const tree = diskTree(await folderEntries(folder, ''));
  const hash = await hashDiskTree(tree, 'salt');
  assert.match(hash, /^[0-9a-f]{32}$/);
  assert.equal(await hashDiskTree(tree, 'salt'), hash);
  assert.notEqual(await hashDiskTree(tree, 'other recipe'), hash);
  const moved = diskTree(await folderEntries(folder, 'moved'));
  assert.notEqual(await hashDiskTree(moved, 'salt'), hash);
  await writeFile(join(folder, 'agent.mjs'), 'changed');
  assert.notEqual(await hashDiskTree(diskTree(await folderEntries(folder, '')), 'salt'), hash);
});

test('folders that nobody named are made, before what they hold', () => {
  const file = { kind: 'file', source: '/dev/null', executable: false, sizeBytes: 0 } as const;
  const paths = diskTree([
    { ...file, path: 'node_modules/@scope/name/index.js' },
    { ...file, path: 'node' },
  ]).map(({ path }) => path);
  assert.deepEqual(paths, [
    'node',
    'node_modules',
    'node_modules/@scope',
    'node_modules/@scope/name',
    'node_modules/@scope/name/index.js',
  ]);
});
