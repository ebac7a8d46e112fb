import assert from 'node:assert/strict';
import fs, { fstatSync, readdirSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { isTemporaryFile, writeFileAtomic } from './atomic-file.ts';

test('a file is replaced whole, with the mode that was asked for, and nothing is left beside it', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'nestbox-atomic-'));
  t.after(() => rm(folder, { recursive: true }));
  const path = join(folder, 'record.json');
  await writeFileAtomic(path, 'one');
  await writeFileAtomic(path, 'two', 0o640);
  assert.equal(await readFile(path, 'utf8'), 'two');
  assert.equal((await stat(path)).mode & 0o777, 0o640);
  assert.deepEqual(await readdir(folder), ['record.json']);
});

test('many writers at once leave one whole content', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'nestbox-atomic-'));
  t.after(() => rm(folder, { recursive: true }));
  const path = join(folder, 'record.json');
  const contents = Array.from({ length: 20 }, (_, index) => String(index).repeat(5000));
  await Promise.all(contents.map((content) => writeFileAtomic(path, content)));
  assert.ok(contents.includes(await readFile(path, 'utf8')));
  assert.deepEqual(await readdir(folder), ['record.json']);
});

test('a write whose folder cannot be synced leaves the old content, or no file where there was none', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'nestbox-atomic-'));
  t.after(() => rm(folder, { recursive: true }));
  const path = join(folder, 'record.json');
  await writeFileAtomic(path, 'one');
  onSync(t, (file) => {
    if (fstatSync(file).isDirectory()) throw new Error('the disk is full');
  });
  await assert.rejects(writeFileAtomic(path, 'two'), /the disk is full/);
  assert.equal(await readFile(path, 'utf8'), 'one');
  await assert.rejects(writeFileAtomic(join(folder, 'new.json'), 'two'), /the disk is full/);
  assert.deepEqual(await readdir(folder), ['record.json']);
});

test('what a writer was killed over can be told from other files', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'nestbox-atomic-'));
  t.after(() => rm(folder, { recursive: true }));
  const path = join(folder, 'record.json');
  await writeFileAtomic(path, 'one');
  const seen = new Set<string>();
  onSync(t, () => {
    for (const name of readdirSync(folder)) seen.add(name);
  });
  await writeFileAtomic(path, 'two');
  assert.equal(seen.size, 3);
  assert.deepEqual(
    [...seen].filter((name) => !isTemporaryFile(name)),
    ['record.json'],
  );
});

test('a write that fails leaves the old content and nothing beside it', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'nestbox-atomic-'));
  t.after(() => rm(folder, { recursive: true }));
  // A folder stands where the file should go, so the rename fails.
  await assert.rejects(writeFileAtomic(folder, 'x'));
  const missing = join(folder, 'missing', 'record.json');
  await assert.rejects(writeFileAtomic(missing, 'x'), { code: 'ENOENT' });
  assert.deepEqual(await readdir(folder), []);
});

/** Calls back before each fsync(2), which fails as that throws. */
function onSync(t: TestContext, look: (file: number) => void): void {
  const { fsync } = fs;
  const looking = (file: number, done: fs.NoParamCallback) => {
    try {
      look(file);
    } catch (error) {
      done(error as Error);
      return;
    }
    fsync(file, done);
  };
  Object.assign(fs, { fsync: looking });
  syncBuiltinESMExports();
  t.after(() => {
    Object.assign(fs, { fsync });
    syncBuiltinESMExports();
  });
}
