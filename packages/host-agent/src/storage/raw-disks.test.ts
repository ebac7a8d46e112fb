import assert from 'node:assert/strict';
import { mkdir, mkdtemp, open, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { runCommand } from '@nestbox/kit';
import { createRawDisk, isRawDiskName } from './raw-disks.ts';

const DISK_MIB = 16;

/** A disk with something at its beginning and end, and a hole between. */
async function makeSource(folder: string): Promise<string> {
  const path = join(folder, 'source');
  await using file = await open(path, 'wx');
  await file.truncate(DISK_MIB * 2 ** 20);
  await file.write(Buffer.alloc(8192, 1), 0, 8192, 0);
  await file.write(Buffer.alloc(4096, 2), 0, 4096, DISK_MIB * 2 ** 20 - 4096);
  return path;
}

async function makeFolder(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'nestbox-raw-'));
  t.after(async () => {
    // What a test has mounted in there goes first.
    for (const name of await readdir(folder))
      await runCommand('umount', ['-q', join(folder, name)]).catch(() => undefined);
    await rm(folder, { recursive: true, force: true });
  });
  return folder;
}

test('a raw disk is its source, larger if wanted, takes little room, and is written to alone', async (t) => {
  const folder = await makeFolder(t);
  const sourcePath = await makeSource(folder);
  const source = await readFile(sourcePath);
  const { name } = await createRawDisk({ folder, sourcePath, diskMib: DISK_MIB + 1, minimumFreeBytes: 0 });
  assert.ok(isRawDiskName(name));
  const path = join(folder, name);
  const { size, blocks, mode } = await stat(path);
  assert.deepEqual([size, mode & 0o777], [(DISK_MIB + 1) * 2 ** 20, 0o600]);
  assert.ok(blocks * 512 < 2 ** 20, `${blocks} blocks`);
  assert.ok((await readFile(path)).subarray(0, source.length).equals(source));
  await writeFile(path, 'changed', { flag: 'r+' });
  assert.ok((await readFile(sourcePath)).equals(source));
  assert.deepEqual((await readdir(folder)).length, 2);
});

test('a disk shares its blocks where the file system can', async (t) => {
  const folder = await makeFolder(t);
  const image = join(folder, 'xfs.img');
  const mounted = join(folder, 'mnt');
  await mkdir(mounted);
  await writeFile(image, '');
  await truncate(image, 400 * 2 ** 20);
  try {
    await runCommand('mkfs.xfs', ['-q', '-m', 'reflink=1', image]);
    await runCommand('mount', ['-o', 'loop', image, mounted]);
  } catch (error) {
    t.skip(`no file system with reflinks can be made here: ${error instanceof Error ? error.message : String(error)}`);
    return;
  }
  const sourcePath = await makeSource(mounted);
  const { kind, name } = await createRawDisk({ folder: mounted, sourcePath, diskMib: DISK_MIB, minimumFreeBytes: 0 });
  assert.equal(kind, 'shared');
  assert.ok((await readFile(join(mounted, name))).equals(await readFile(sourcePath)));
});

test('what cannot be made is refused, and leaves nothing', async (t) => {
  const folder = await makeFolder(t);
  const sourcePath = await makeSource(folder);
  const disk = { folder, sourcePath, diskMib: DISK_MIB, minimumFreeBytes: 0 };
  await assert.rejects(createRawDisk({ ...disk, diskMib: DISK_MIB - 1 }), { code: 'invalid_request' });
  await assert.rejects(createRawDisk({ ...disk, minimumFreeBytes: Number.MAX_SAFE_INTEGER }), {
    code: 'host_disk_full',
  });
  await assert.rejects(createRawDisk({ ...disk, sourcePath: join(folder, 'none') }), { code: 'ENOENT' });
  const reason = new Error('not wanted any more');
  await assert.rejects(createRawDisk(disk, AbortSignal.abort(reason)), reason);
  assert.deepEqual(await readdir(folder), ['source']);
});

test('a full disk is told, and the half copy is gone', async (t) => {
  const folder = await makeFolder(t);
  const small = join(folder, 'small');
  await mkdir(small);
  await runCommand('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', small]);
  const sourcePath = join(folder, 'full');
  await writeFile(sourcePath, Buffer.alloc(3 * 2 ** 20, 5));
  await assert.rejects(createRawDisk({ folder: small, sourcePath, diskMib: 3, minimumFreeBytes: 0 }), {
    code: 'host_disk_full',
  });
  assert.deepEqual(await readdir(small), []);
});
