import assert from 'node:assert/strict';
import { link, mkdir, readdir, readFile, rename, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { NestboxError } from '@nestbox/contract';
import { CommandError, runCommand } from '@nestbox/kit';
import { DiskLayers, isLayerName, layersFrom, shortenStack } from './disk-layers.ts';
import { mapDiskFull, requireFreeSpace } from './disk-space.ts';
import { ROOTFS_NAME } from './machine-folder.ts';
import { NEEDS_ROOT, temporaryFolder, tinyFileSystem } from './testing/temporary-state.ts';

const DISK_MIB = 8;

async function machineFolder(t: TestContext): Promise<string> {
  const folder = await temporaryFolder(t);
  await writeFile(join(folder, ROOTFS_NAME), 'the template');
  await truncate(join(folder, ROOTFS_NAME), DISK_MIB * 2 ** 20);
  return folder;
}

/** A stack of so many layers, each with a byte of its own at its number times 64 KiB. Top first. */
async function stackOf(folder: string, count: number): Promise<string[]> {
  const disks = new DiskLayers(join(folder, 'work'));
  const layers: string[] = [];
  for (let number = 1; number <= count; number++) {
    layers.unshift(await disks.create({ folder, below: layers[0], diskMib: DISK_MIB }));
    await write(folder, layers[0] ?? '', number);
  }
  return layers;
}

async function write(folder: string, layer: string, number: number): Promise<void> {
  await runCommand('qemu-io', ['-f', 'qcow2', '-c', `write -P ${number} ${number * 64}k 64k`, join(folder, layer)]);
}

async function contentOf(folder: string, layer: string): Promise<Buffer> {
  const flat = join(folder, 'flat');
  await runCommand('qemu-img', ['convert', '-O', 'raw', join(folder, layer), flat]);
  return readFile(flat);
}

function code(expected: string) {
  return (error: unknown) => error instanceof NestboxError && error.code === expected;
}

test('an empty layer has the size and the content of the disk below and names it with its format', async (t) => {
  const folder = await machineFolder(t);
  const disks = new DiskLayers(join(folder, 'work'));
  const first = await disks.create({ folder, below: undefined, diskMib: DISK_MIB });
  const second = await disks.create({ folder, below: first, diskMib: DISK_MIB });
  for (const [layer, below, format] of [
    [first, ROOTFS_NAME, 'raw'],
    [second, first, 'qcow2'],
  ] as const) {
    assert.ok(isLayerName(layer));
    const info: unknown = JSON.parse(
      (await runCommand('qemu-img', ['info', '--output=json', join(folder, layer)])).stdout,
    );
    assert.partialDeepStrictEqual(info, {
      format: 'qcow2',
      'virtual-size': DISK_MIB * 2 ** 20,
      'backing-filename': below,
      'backing-filename-format': format,
    });
    await runCommand('qemu-img', ['check', join(folder, layer)]);
    const raw = join(folder, ROOTFS_NAME);
    await runCommand('qemu-img', ['compare', '-f', 'raw', '-F', 'qcow2', raw, join(folder, layer)]);
    assert.ok((await stat(join(folder, layer))).blocks * 512 < 2 ** 20);
  }
});

test('what is written to a layer does not reach those below, and moves with the folder', async (t) => {
  const folder = await machineFolder(t);
  const [top = '', below = ''] = await stackOf(folder, 2);
  const before = await readFile(join(folder, below));
  await write(folder, top, 5);
  assert.ok(before.equals(await readFile(join(folder, below))));
  const moved = `${folder}-moved`;
  await rename(folder, moved);
  await mkdir(folder);
  const content = await contentOf(moved, top);
  for (const number of [1, 2, 5]) assert.equal(content[number * 65_536], number);
  await rename(moved, join(folder, 'back'));
});

test('layers are never made over one that is there, and need room', async (t) => {
  const folder = await machineFolder(t);
  const disks = new DiskLayers(join(folder, 'work'));
  const names = await Promise.all(
    Array.from({ length: 5 }, () => disks.create({ folder, below: undefined, diskMib: DISK_MIB })),
  );
  assert.equal(new Set(names).size, 5);
  await assert.rejects(
    disks.create({ folder, below: undefined, diskMib: DISK_MIB, minimumFreeBytes: 2 ** 60 }),
    code('host_disk_full'),
  );
  await assert.rejects(disks.create({ folder, below: 'of another length.qcow2', diskMib: DISK_MIB }), code('internal'));
  assert.equal((await readdir(folder)).length, 7, 'and leave nothing when refused');
  assert.deepEqual(await readdir(join(folder, 'work')), []);
});

test('a full file system is told as such and keeps no half layer', { skip: NEEDS_ROOT }, async (t) => {
  const folder = await tinyFileSystem(t);
  const disks = new DiskLayers(join(folder, 'work'));
  await writeFile(join(folder, 'filler'), Buffer.alloc(2 ** 20)).catch(() => {});
  await assert.rejects(async () => {
    for (let count = 0; count < 1000; count++)
      await disks.create({ folder, below: undefined, diskMib: DISK_MIB, minimumFreeBytes: 0 });
  }, code('host_disk_full'));
  for (const name of (await readdir(folder)).filter(isLayerName))
    assert.ok((await stat(join(folder, name))).size > 100_000, name);
});

test('a top that is nobody else’s goes into the layer below, again and again', async (t) => {
  const folder = await machineFolder(t);
  const [top = '', second = ''] = await stackOf(folder, 2);
  await write(folder, top, 9);
  const left = await shortenStack(folder, [top, second], 8);
  assert.deepEqual(left, [second]);
  // Interrupted before it was written down: the stack as it was is as right as before, and so is the second time.
  assert.equal((await contentOf(folder, top))[9 * 65_536], 9);
  assert.deepEqual(await shortenStack(folder, [top, second], 8), [second]);
  const content = await contentOf(folder, second);
  for (const number of [1, 2, 9]) assert.equal(content[number * 65_536], number);
});

test('layers that others have too are left alone, and copied together when there are many', async (t) => {
  const folder = await machineFolder(t);
  const layers = await stackOf(folder, 4);
  const other = join(folder, 'other');
  await mkdir(other);
  for (const name of layers) await link(join(folder, name), join(other, name));
  const before = await Promise.all(layers.map((name) => readFile(join(folder, name))));
  assert.equal(await shortenStack(folder, layers, 4), layers);
  const [flat = '', ...rest] = await shortenStack(folder, layers, 3);
  assert.deepEqual(rest, []);
  const content = await contentOf(folder, flat);
  for (const number of [1, 2, 3, 4]) assert.equal(content[number * 65_536], number);
  const after = await Promise.all(layers.map((name) => readFile(join(folder, name))));
  assert.ok(after.every((bytes, index) => bytes.equals(before[index] ?? Buffer.alloc(0))));
});

test('layers that were merged inside a VM, which nobody wrote down, are told; the raw disk is never written to', async (t) => {
  const folder = await machineFolder(t);
  const layers = await stackOf(folder, 3);
  const [top = '', ...lower] = layers;
  assert.deepEqual(await layersFrom(folder, top), layers);
  // What a VMM does to the disk of a running guest.
  await runCommand('qemu-img', ['rebase', '-q', '-f', 'qcow2', '-F', 'raw', '-b', ROOTFS_NAME, join(folder, top)]);
  const raw = await readFile(join(folder, ROOTFS_NAME));
  for (let round = 0; round < 2; round++) assert.deepEqual(await shortenStack(folder, layers, 8), [top]);
  assert.ok(raw.equals(await readFile(join(folder, ROOTFS_NAME))));
  for (const name of lower) await rm(join(folder, name));
  const content = await contentOf(folder, top);
  for (const number of [1, 2, 3]) assert.equal(content[number * 65_536], number);
});

test('a stack that is not one is refused', async (t) => {
  const folder = await machineFolder(t);
  const [top = '', second = ''] = await stackOf(folder, 2);
  await writeFile(join(folder, second), 'no disk at all, though it is long enough for a header');
  await assert.rejects(layersFrom(folder, top), code('internal'));
  await assert.rejects(shortenStack(folder, [top, second], 8), code('internal'));
  await rm(join(folder, second));
  await assert.rejects(layersFrom(folder, top), { code: 'ENOENT' });
});

test('merging that is given up leaves the stack as it was, and nothing beside it', async (t) => {
  const folder = await machineFolder(t);
  const layers = await stackOf(folder, 4);
  const other = join(folder, 'other');
  await mkdir(other);
  for (const name of layers) await link(join(folder, name), join(other, name));
  const names = await readdir(folder);
  await assert.rejects(shortenStack(folder, layers, 3, AbortSignal.abort()));
  assert.deepEqual(await readdir(folder), names);
});

test('no space in all the forms in which it comes is host_disk_full', async (t) => {
  const folder = await temporaryFolder(t);
  for (const errno of ['ENOSPC', 'EDQUOT']) {
    const mapped = mapDiskFull(Object.assign(new Error('write'), { code: errno }));
    assert.ok(mapped instanceof NestboxError && mapped.code === 'host_disk_full');
  }
  const words = new CommandError('qemu-img', 1, 'error while writing: No space left on device');
  assert.ok(mapDiskFull(words) instanceof NestboxError);
  const other = new Error('other');
  assert.equal(mapDiskFull(other), other);
  await assert.rejects(requireFreeSpace(folder, 2 ** 60), code('host_disk_full'));
});
