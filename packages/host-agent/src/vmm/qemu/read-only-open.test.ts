import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { installReadOnlyOpen } from './read-only-open.ts';

const USER_ID = 1_879_048_192;

async function makeFiles(t: TestContext) {
  const folder = await mkdtemp(join(tmpdir(), 'nestbox-open-'));
  t.after(() => rm(folder, { recursive: true }));
  await chmod(folder, 0o777);
  const image = join(folder, 'image');
  await writeFile(image, 'content', { mode: 0o444 });
  return { folder, image, library: await installReadOnlyOpen(folder) };
}

/** A program as another user, who may not write to the image. */
function dd(library: string | undefined, args: readonly string[]) {
  const preload = library === undefined ? [] : [`LD_PRELOAD=${library}`];
  const asUser = ['--reuid', String(USER_ID), '--regid', String(USER_ID), '--clear-groups', 'env', ...preload];
  return spawnSync('setpriv', [...asUser, 'dd', ...args], {
    encoding: 'utf8',
    env: { PATH: process.env.PATH, LC_ALL: 'C' },
  });
}

test('programs that it is loaded into work as before', async (t) => {
  const { folder, image, library } = await makeFiles(t);
  const copied = dd(library, [`if=${image}`, `of=${join(folder, 'copy')}`, 'status=none']);
  assert.equal(copied.stderr, '');
  assert.equal(execFileSync('cat', [join(folder, 'copy')], { encoding: 'utf8' }), 'content');
  assert.match(dd(library, [`if=${join(folder, 'none')}`, 'status=none']).stderr, /No such file or directory/);
});

test('it is a well-formed library, by the word of the dynamic linker', async (t) => {
  const { library } = await makeFiles(t);
  const traced = spawnSync('/bin/true', {
    encoding: 'utf8',
    env: { LD_PRELOAD: library, LD_BIND_NOW: '1', LD_WARN: '1' },
  });
  assert.deepEqual([traced.status, traced.stderr], [0, '']);
});
