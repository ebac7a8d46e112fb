import assert from 'node:assert/strict';
import { link, mkdir, mkdtemp, open, readFile, rm, stat, truncate, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { crc32 } from 'node:zlib';
import { runCommand } from '@nestbox/kit';
import { createBlankImage } from '../memory/memory-image.ts';
import { writePageMap } from '../memory/page-file.ts';
import { PAGE_BYTES } from '../memory/page-runs.ts';
import { machineFiles } from '../storage/machine-folder.ts';
import { withCode } from '../testing/sandbox-checks.ts';
import { ImageGuard } from './image-guard.ts';

const PAGES = 64;
const MEMORY_BYTES = 8 * 2 ** 20;
const AT = 1_700_000_000;
const damaged = (pattern: RegExp) => withCode('snapshot_damaged', pattern);

/** A folder with an image of 64 pages and its map. */
async function imageFolder(t: TestContext) {
  const folder = await mkdtemp(join(tmpdir(), 'nestbox-guard-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const files = machineFiles(folder);
  await createBlankImage(files.memory, MEMORY_BYTES);
  const content = Buffer.alloc(PAGES * PAGE_BYTES, 7);
  await put(files.memory, content);
  const runs = Uint32Array.of(0, PAGES);
  writePageMap(files.memoryMap, { memoryBytes: MEMORY_BYTES, runs, pageCount: PAGES, crc: crc32(content) });
  return { folder, files };
}

async function put(path: string, content: Buffer, position = 0): Promise<void> {
  await using file = await open(path, 'r+');
  await file.write(content, 0, content.length, position);
}

test('an image that is what was written is accepted, and so is a blank one', async (t) => {
  const { folder } = await imageFolder(t);
  await new ImageGuard().requireIntact(folder);
  const blank = join(folder, 'blank');
  await mkdir(blank);
  await createBlankImage(machineFiles(blank).memory, MEMORY_BYTES);
  await new ImageGuard().requireIntact(blank);
});

test('an image whose holes were copied as zeros is accepted, a blank one too; a blank one with something in it is not', async (t) => {
  const { folder } = await imageFolder(t);
  const blank = join(folder, 'blank');
  await mkdir(blank);
  await createBlankImage(machineFiles(blank).memory, MEMORY_BYTES);
  for (const from of [folder, blank]) {
    const copy = join(folder, `copy of ${from === blank ? 'blank' : 'image'}`);
    await mkdir(copy);
    for (const name of ['memory', 'memory.map'])
      if (name === 'memory' || from === folder)
        await runCommand('cp', ['--sparse=never', join(from, name), join(copy, name)]);
    assert.ok((await stat(machineFiles(copy).memory)).blocks * 512 >= MEMORY_BYTES);
    await new ImageGuard().requireIntact(copy);
    await put(machineFiles(copy).memory, Buffer.from([1]), MEMORY_BYTES - 1);
    await assert.rejects(new ImageGuard().requireIntact(copy), damaged(/map/));
  }
});

test('an image is read once, under whichever names and by however many at once', async (t) => {
  const { folder, files } = await imageFolder(t);
  const guard = new ImageGuard();
  await utimes(files.memory, AT, AT);
  await Promise.all([guard.requireIntact(folder), guard.requireIntact(folder)]);
  const other = join(folder, 'other');
  await mkdir(other);
  await link(files.memory, machineFiles(other).memory);
  await link(files.memoryMap, machineFiles(other).memoryMap);
  // Only who reads it again can see this.
  await put(files.memory, Buffer.from([8]));
  await utimes(files.memory, AT, AT);
  await guard.requireIntact(folder);
  await guard.requireIntact(other);
  await assert.rejects(new ImageGuard().requireIntact(folder), damaged(/checksum/));
});

test('an image that was changed in place is read again, and refused as long as it is wrong', async (t) => {
  const { folder, files } = await imageFolder(t);
  const guard = new ImageGuard();
  await guard.requireIntact(folder);
  const right = await readFile(files.memory);
  await put(files.memory, Buffer.from([8]), 5 * PAGE_BYTES);
  for (let time = 0; time < 2; time++) await assert.rejects(guard.requireIntact(folder), damaged(/checksum/));
  await put(files.memory, right);
  await guard.requireIntact(folder);
});

for (const [what, damage, pattern] of [
  ['is missing', (files) => rm(files.memory), /missing/],
  ['was cut', (files) => truncate(files.memory, PAGE_BYTES), /has 4096 bytes/],
  [
    'has something where its map has nothing',
    (files) => put(files.memory, Buffer.from([1]), 5_000_000),
    /map has nothing/,
  ],
  ['has lost its map', (files) => rm(files.memoryMap), /map is missing/],
  ['has a map that was cut', (files) => truncate(files.memoryMap, 100), /memory\.map/],
  ['has a map that is no map', (files) => writeFile(files.memoryMap, Buffer.alloc(4096)), /memory\.map/],
] satisfies [string, (files: ReturnType<typeof machineFiles>) => Promise<void>, RegExp][])
  test(`an image that ${what} is refused, before and after it was accepted`, async (t) => {
    const { folder, files } = await imageFolder(t);
    const guard = new ImageGuard();
    await guard.requireIntact(folder);
    await damage(files);
    for (const each of [guard, new ImageGuard()]) await assert.rejects(each.requireIntact(folder), damaged(pattern));
  });
