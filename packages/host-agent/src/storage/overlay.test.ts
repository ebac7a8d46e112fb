import assert from 'node:assert/strict';
import { access, readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { NestboxError } from '@nestbox/contract';
import { CommandError, runCommand } from '@nestbox/kit';
import { mapDiskFull, requireFreeSpace } from './disk-space.ts';
import { createOverlay } from './overlay.ts';
import { NEEDS_ROOT, temporaryFolder, tinyFileSystem } from './testing/temporary-state.ts';

async function rawDisk(t: TestContext): Promise<{ folder: string; backingPath: string; path: string }> {
  const folder = await temporaryFolder(t);
  const backingPath = join(folder, 'rootfs.ext4');
  await writeFile(backingPath, 'the template');
  await truncate(backingPath, 8 * 2 ** 20);
  return { folder, backingPath, path: join(folder, 'disk.qcow2') };
}

function code(expected: string) {
  return (error: unknown) => error instanceof NestboxError && error.code === expected;
}

test('an overlay has the size and the content of the disk below and names it with its format', async (t) => {
  const { backingPath, path } = await rawDisk(t);
  await createOverlay({ path, backingPath });
  const info: unknown = JSON.parse((await runCommand('qemu-img', ['info', '--output=json', path])).stdout);
  assert.partialDeepStrictEqual(info, {
    format: 'qcow2',
    'virtual-size': 8 * 2 ** 20,
    'backing-filename': backingPath,
    'backing-filename-format': 'raw',
  });
  await runCommand('qemu-img', ['compare', '-f', 'raw', '-F', 'qcow2', backingPath, path]);
  await runCommand('qemu-img', ['check', path]);
});

test('what is written to an overlay does not reach the disk below', async (t) => {
  const { folder, backingPath, path } = await rawDisk(t);
  await createOverlay({ path, backingPath });
  const before = await readFile(backingPath);
  await runCommand('qemu-io', ['-f', 'qcow2', '-c', 'write -P 0x5a 0 64k', path]);
  assert.ok(before.equals(await readFile(backingPath)));
  const flat = join(folder, 'flat');
  await runCommand('qemu-img', ['convert', '-O', 'raw', path, flat]);
  assert.equal((await readFile(flat))[70], 0x5a);
});

test('an overlay takes less than a megabyte', async (t) => {
  const { backingPath, path } = await rawDisk(t);
  await truncate(backingPath, 64 * 2 ** 30);
  await createOverlay({ path, backingPath });
  assert.ok((await stat(path)).blocks * 512 < 2 ** 20);
});

test('a disk that is there already is not overwritten', async (t) => {
  const { backingPath, path } = await rawDisk(t);
  await writeFile(path, 'somebody else’s');
  await assert.rejects(createOverlay({ path, backingPath }), code('conflict'));
  assert.equal(await readFile(path, 'utf8'), 'somebody else’s');
});

test('a missing disk below is template_not_found and leaves nothing', async (t) => {
  const { folder, path } = await rawDisk(t);
  await assert.rejects(createOverlay({ path, backingPath: join(folder, 'absent') }), code('template_not_found'));
  await assert.rejects(access(path));
});

test('an abort leaves nothing', async (t) => {
  const { backingPath, path } = await rawDisk(t);
  await assert.rejects(createOverlay({ path, backingPath }, AbortSignal.abort()), code('deadline_exceeded'));
  await assert.rejects(access(path));
});

test('too little free space is host_disk_full before anything is made', async (t) => {
  const { folder, backingPath, path } = await rawDisk(t);
  const minimumFreeBytes = 2 ** 60;
  await assert.rejects(createOverlay({ path, backingPath, minimumFreeBytes }), (error) => {
    assert.ok(error instanceof NestboxError);
    assert.equal(error.code, 'host_disk_full');
    assert.equal(error.httpStatus, 507);
    assert.match(error.message, /MiB are free at /);
    return true;
  });
  await assert.rejects(access(path));
  await requireFreeSpace(folder, 0);
});

test('a disk that runs full while qemu-img writes is host_disk_full and leaves nothing', {
  skip: NEEDS_ROOT,
}, async (t) => {
  const { backingPath } = await rawDisk(t);
  const path = join(await tinyFileSystem(t), 'disk.qcow2');
  await assert.rejects(createOverlay({ path, backingPath, minimumFreeBytes: 0 }), code('host_disk_full'));
  await assert.rejects(access(path));
});

test('“no space” is recognised in all its forms and nothing else is taken for it', () => {
  const errno = (name: string) => Object.assign(new Error(name), { code: name });
  for (const full of [
    errno('ENOSPC'),
    errno('EDQUOT'),
    new CommandError('qemu-img', 1, 'qemu-img: x: Could not write: No space left on device'),
  ])
    assert.ok(code('host_disk_full')(mapDiskFull(full)));
  for (const other of [errno('EIO'), new CommandError('qemu-img', 1, 'No such file'), 'text'])
    assert.equal(mapDiskFull(other), other);
});
