import assert from 'node:assert/strict';
import { link, mkdir, open, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { folderUsage } from './disk-usage.ts';
import { temporaryFolder } from './testing/temporary-state.ts';

const MIB = 2 ** 20;

function filled(bytes: number): Buffer {
  return Buffer.alloc(bytes, 1);
}

test('a folder takes what its files take on the disk, by whether others have them too and by what they are', async (t) => {
  const root = await temporaryFolder(t);
  const folder = join(root, 'folder');
  await mkdir(join(folder, 'pause'), { recursive: true });
  await writeFile(join(folder, 'disk-00000001.qcow2'), filled(MIB));
  await writeFile(join(folder, 'disk-00000002.raw'), filled(6 * MIB));
  await writeFile(join(folder, 'rootfs.ext4'), filled(2 * MIB));
  await link(join(folder, 'rootfs.ext4'), join(root, 'of somebody else'));
  await writeFile(join(folder, 'pause', 'pages'), filled(3 * MIB));
  await writeFile(join(folder, 'console.log'), filled(4 * MIB));
  await using memory = await open(join(folder, 'memory'), 'w');
  await memory.truncate(512 * MIB);
  await memory.write(filled(5 * MIB), 0, 5 * MIB, 100 * MIB);
  assert.deepEqual(await folderUsage(folder), {
    ownBytes: (1 + 3 + 4 + 5 + 6) * MIB,
    sharedBytes: 2 * MIB,
    memoryBytes: (3 + 5) * MIB,
    diskBytes: (1 + 2 + 6) * MIB,
  });
});

test('a file that a folder has twice counts once and is its own; no link out of it is followed', async (t) => {
  const root = await temporaryFolder(t);
  const folder = join(root, 'folder');
  await mkdir(join(folder, 'snapshot'), { recursive: true });
  await writeFile(join(folder, 'rootfs.ext4'), filled(MIB));
  await link(join(folder, 'rootfs.ext4'), join(folder, 'snapshot', 'rootfs.ext4'));
  await writeFile(join(root, 'elsewhere'), filled(MIB));
  await symlink(join(root, 'elsewhere'), join(folder, 'link'));
  const { ownBytes, sharedBytes, diskBytes } = await folderUsage(folder);
  assert.deepEqual({ ownBytes, sharedBytes, diskBytes }, { ownBytes: MIB, sharedBytes: 0, diskBytes: MIB });
});

test('a folder that is not there takes nothing', async (t) => {
  const nothing = { ownBytes: 0, sharedBytes: 0, memoryBytes: 0, diskBytes: 0 };
  assert.deepEqual(await folderUsage(join(await temporaryFolder(t), 'nowhere')), nothing);
});
