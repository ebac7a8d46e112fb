import assert from 'node:assert/strict';
import { appendFile, mkdir, readdir, readFile, rename, rm, stat, truncate, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { NestboxError } from '@nestbox/contract';
import { machineFiles } from './machine-folder.ts';
import {
  checkDisk,
  checkLayers,
  readManifest,
  readManifestFile,
  type SnapshotManifest,
  sealDisk,
  writeManifest,
} from './snapshot-manifest.ts';
import { temporaryFolder } from './testing/temporary-state.ts';

const LAYERS = ['disk-00000001.qcow2', 'disk-00000002.qcow2'];

function damaged(pattern: RegExp) {
  return (error: unknown) =>
    error instanceof NestboxError && error.code === 'snapshot_damaged' && pattern.test(error.message);
}

/** A machine's folder, and in it one with a saved state. */
async function savedState(t: TestContext) {
  const machine = await temporaryFolder(t);
  const files = machineFiles(machine);
  await writeFile(files.rootfs, 'the raw disk');
  for (const name of LAYERS) await writeFile(files.layer(name), `layer ${name}`);
  const folder = join(machine, 'pause');
  await mkdir(folder);
  await writeFile(machineFiles(folder).devices, Buffer.alloc(3 * 2 ** 20, 5));
  const disk = await sealDisk(machine, LAYERS);
  const facts = {
    machine: 'these words',
    vcpuCount: 2,
    memoryMib: 512,
    diskMib: 1024,
    kernelVersion: '6.1',
    agentDiskHash: 'abc',
    envdVersion: '0.6',
    createdAtMs: 1_700_000_000_000,
    hasPages: true,
    disk,
  };
  const written = await writeManifest(folder, facts);
  return { machine, folder, files: machineFiles(folder), machineFiles: files, facts, written, disk };
}

test('a manifest is read back as it was written, and stays right when its folder moves', async (t) => {
  const { machine, folder, facts, written } = await savedState(t);
  const manifest = await readManifest(folder);
  assert.deepEqual(manifest, written);
  assert.partialDeepStrictEqual(manifest, { format: 1, ...facts, devices: { bytes: 3 * 2 ** 20 } });
  assert.deepEqual(new Set(await readdir(folder)), new Set(['devices', 'snapshot.json']));
  assert.equal((await stat(machineFiles(folder).manifest)).mode & 0o077, 0);
  const moved = `${machine}-moved`;
  await rename(machine, moved);
  t.after(() => rm(moved, { recursive: true, force: true }));
  assert.deepEqual(await readManifest(join(moved, 'pause')), written);
  await checkDisk(moved, written.disk);
});

test('a manifest of which anything was changed is refused', async (t) => {
  const { folder, files } = await savedState(t);
  const text = await readFile(files.manifest, 'utf8');
  const parsed: { checksum: number; manifest: SnapshotManifest } = JSON.parse(text);
  for (const key of Object.keys(parsed.manifest)) {
    const value: unknown = Reflect.get(parsed.manifest, key);
    let other: unknown = { layers: LAYERS.slice(1), topBytes: 1, topModifiedMs: 1 };
    if (typeof value === 'number') other = value + 1;
    else if (typeof value === 'string') other = `${value}x`;
    else if (typeof value === 'boolean') other = !value;
    else if (key === 'devices') other = { bytes: 1, crc32: 1 };
    await writeFile(files.manifest, JSON.stringify({ ...parsed, manifest: { ...parsed.manifest, [key]: other } }));
    await assert.rejects(readManifest(folder), damaged(/snapshot\.json/), key);
    const { [key]: _, ...rest }: Record<string, unknown> = { ...parsed.manifest };
    await writeFile(files.manifest, JSON.stringify({ ...parsed, manifest: rest }));
    await assert.rejects(readManifestFile(files.manifest), damaged(/snapshot\.json/), key);
  }
  for (const [content, pattern] of [
    [text.slice(0, -20), /not JSON/],
    ['', /empty/],
    ['[]', /snapshot\.json/],
    [JSON.stringify({ ...parsed, checksum: parsed.checksum + 1 }), /its checksum is wrong/],
  ] as const) {
    await writeFile(files.manifest, content);
    await assert.rejects(readManifestFile(files.manifest), damaged(pattern), content);
  }
  await rm(files.manifest);
  await assert.rejects(readManifestFile(files.manifest), damaged(/missing/));
  await mkdir(files.manifest);
  await assert.rejects(readManifestFile(files.manifest), damaged(/cannot be read/));
});

test('a manifest is the same in whatever order its fields stand', async (t) => {
  const { folder, files, written } = await savedState(t);
  const { checksum, manifest } = JSON.parse(await readFile(files.manifest, 'utf8'));
  const turned = Object.fromEntries(Object.entries(manifest).reverse());
  await writeFile(files.manifest, JSON.stringify({ manifest: turned, checksum }));
  assert.deepEqual(await readManifest(folder), written);
});

test('devices that are not those that were saved are refused', async (t) => {
  for (const damage of [
    (path: string) => appendFile(path, 'x'),
    (path: string) => truncate(path, 100),
    (path: string) => writeFile(path, 'x', { flag: 'r+' }),
    (path: string) => rm(path),
  ]) {
    const { folder, files } = await savedState(t);
    await damage(files.devices);
    await assert.rejects(readManifest(folder), damaged(/devices is damaged/));
  }
});

test('a disk of another moment than the memory is refused', async (t) => {
  for (const [damage, pattern] of [
    [(top: string) => appendFile(top, 'x'), /same moment/],
    [(top: string) => utimes(top, 1, 1), /same moment/],
    [(top: string) => rm(top), /disk-00000001\.qcow2 .*missing/],
    [(_: string, lower: string) => rm(lower), /disk-00000002\.qcow2 .*missing/],
    [(_: string, __: string, raw: string) => rm(raw), /rootfs\.ext4 .*missing/],
  ] as const) {
    const { machine, machineFiles: disk, disk: seal } = await savedState(t);
    await damage(disk.layer(LAYERS[0] ?? ''), disk.layer(LAYERS[1] ?? ''), disk.rootfs);
    await assert.rejects(checkDisk(machine, seal), damaged(pattern));
  }
});

test('a disk whose layers were merged has another seal', async (t) => {
  const { machine, machineFiles: files, disk } = await savedState(t);
  // What merging does: the top goes into the one below.
  const [top = '', second = ''] = LAYERS;
  await appendFile(files.layer(second), 'what was in the top');
  await rm(files.layer(top));
  const merged = await sealDisk(machine, [second]);
  await assert.rejects(checkDisk(machine, disk), damaged(/missing/));
  await checkDisk(machine, merged);
  assert.ok((await checkLayers(machine, [second])).size > 0);
  await assert.rejects(checkLayers(machine, []), damaged(/no disk layer/));
});
