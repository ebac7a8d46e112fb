import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { NestboxError } from '@nestbox/contract';
import fc from 'fast-check';
import { createBlankImage, mergeIntoImage, verifyImage } from './memory-image.ts';
import { applyPageFile, openPageFile, readPageTable, writePageFile } from './page-file.ts';
import { countPages, PAGE_BYTES, RunBuilder, unite } from './page-runs.ts';
import { ProcessMemory } from './process-memory.ts';

const skip = process.geteuid?.() === 0 ? false : "reading another process's memory needs root";
const MEMORY_BYTES = 8 * 2 ** 20;

function temporaryFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'nestbox-memory-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A process that maps an image privately, as a VMM does, and holds it until the test ends. */
async function mappingProcess(t: TestContext, image: string): Promise<number> {
  const script = `
import mmap, sys
f = open(sys.argv[1], 'r+b')
m = mmap.mmap(f.fileno(), 0, flags=mmap.MAP_PRIVATE)
print('ready', flush=True)
sys.stdin.read()
`;
  const child = spawn('python3', ['-c', script, image], { stdio: ['pipe', 'pipe', 'inherit'] });
  t.after(() => child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  assert.ok(child.pid);
  return child.pid;
}

function page(fill: number): Buffer {
  return Buffer.alloc(PAGE_BYTES, fill);
}

async function rejectsDamaged(work: () => Promise<unknown>): Promise<void> {
  await assert.rejects(work, (error) => error instanceof NestboxError && error.code === 'snapshot_damaged');
}

test('changed pages of a private mapping travel through a file into another process', { skip }, async (t) => {
  const folder = temporaryFolder(t);
  const image = join(folder, 'image');
  await createBlankImage(image, MEMORY_BYTES);
  using source = ProcessMemory.open(await mappingProcess(t, image), image, 'r+');
  assert.equal(countPages(source.changedPages()), 0);
  source.write(3, page(7));
  source.write(4, page(8));
  // A page that was written with zeros is a changed page.
  source.write(1000, page(0));
  source.write(2047, page(9));
  // Over the end of one of the kernel's tables, and up to the end of another with nothing behind it.
  for (const at of [511, 512, 1535]) source.write(at, page(6));
  assert.deepEqual([...source.changedPages()], [3, 2, 511, 2, 1000, 1, 1535, 1, 2047, 1]);

  const file = join(folder, 'pages');
  const table = await writePageFile(file, source);
  assert.equal(table.pageCount, 7);
  using target = ProcessMemory.open(await mappingProcess(t, image), image, 'r+');
  target.write(1000, page(5));
  await applyPageFile(file, target);
  for (const [at, fill] of [
    [3, 7],
    [4, 8],
    [1000, 0],
    [2047, 9],
    [5, 0],
  ] as const) {
    const got = page(99);
    target.read(at, got);
    assert.ok(got.equals(page(fill)), `page ${at}`);
  }
  assert.ok(readFileSync(image).equals(Buffer.alloc(MEMORY_BYTES)), 'the image itself never changes');
});

test('an image merged with pages has both, zeros written over content included', { skip }, async (t) => {
  const folder = temporaryFolder(t);
  const blank = join(folder, 'blank');
  await createBlankImage(blank, MEMORY_BYTES);
  const first = { path: join(folder, 'first'), mapPath: join(folder, 'first.map') };
  {
    using memory = ProcessMemory.open(await mappingProcess(t, blank), blank, 'r+');
    memory.write(1, page(1));
    memory.write(2, page(2));
    await writePageFile(join(folder, 'a'), memory);
  }
  await mergeIntoImage({ path: blank, mapPath: undefined }, join(folder, 'a'), first);
  await verifyImage(first);
  const second = { path: join(folder, 'second'), mapPath: join(folder, 'second.map') };
  {
    using memory = ProcessMemory.open(await mappingProcess(t, first.path), first.path, 'r+');
    memory.write(2, page(0));
    memory.write(500, page(5));
    await writePageFile(join(folder, 'b'), memory);
  }
  await mergeIntoImage(first, join(folder, 'b'), second);
  await verifyImage(second);
  const merged = readFileSync(second.path);
  assert.equal(merged.length, MEMORY_BYTES);
  assert.equal(merged[PAGE_BYTES], 1);
  assert.equal(merged[2 * PAGE_BYTES], 0);
  assert.equal(merged[500 * PAGE_BYTES], 5);
  assert.ok(statSync(second.path).blocks * 512 < MEMORY_BYTES / 2, 'what nobody wrote takes no space');
  writeFileSync(second.path, Buffer.from([0]), { flag: 'r+' });
  await verifyImage(second);
  const broken = Buffer.from(merged);
  broken[500 * PAGE_BYTES] = 6;
  writeFileSync(second.path, broken);
  await rejectsDamaged(() => verifyImage(second));
  truncateSync(second.path, PAGE_BYTES);
  await rejectsDamaged(() => verifyImage(second));
});

test('a process without the mapping has nothing to be found, and cannot be opened', { skip }, async (t) => {
  const image = join(temporaryFolder(t), 'image');
  await createBlankImage(image, MEMORY_BYTES);
  assert.equal(ProcessMemory.find(process.pid, image, 'r'), undefined);
  assert.throws(() => ProcessMemory.open(process.pid, image, 'r'), { code: 'internal', message: /no mapping/ });
  using found = ProcessMemory.find(await mappingProcess(t, image), image, 'r');
  assert.equal(found?.pageCount, MEMORY_BYTES / PAGE_BYTES);
});

test('a page file that was cut, changed or is another file is refused', { skip }, async (t) => {
  const folder = temporaryFolder(t);
  const image = join(folder, 'image');
  await createBlankImage(image, MEMORY_BYTES);
  const pid = await mappingProcess(t, image);
  using memory = ProcessMemory.open(pid, image, 'r+');
  for (let at = 0; at < 600; at += 2) memory.write(at, page(at % 251));
  const file = join(folder, 'pages');
  await writePageFile(file, memory);
  const whole = readFileSync(file);
  const tryWith = async (bytes: Buffer) => {
    writeFileSync(file, bytes);
    await rejectsDamaged(async () => {
      using target = ProcessMemory.open(pid, image, 'r+');
      await applyPageFile(file, target);
    });
  };
  await tryWith(whole.subarray(0, whole.length - PAGE_BYTES));
  await tryWith(Buffer.concat([whole, page(0)]));
  await tryWith(Buffer.alloc(0));
  await tryWith(Buffer.from('something else entirely, and long enough to be looked at'));
  for (const at of [0, 9, 13, 17, 25, 29, 33, 40, whole.length - 1, whole.length - 5 * PAGE_BYTES]) {
    const changed = Buffer.from(whole);
    changed[at] = (changed[at] ?? 0) ^ 1;
    await tryWith(changed);
  }
  writeFileSync(file, whole);
  assert.equal(openPageFile(file).table.pageCount, 300);
  const said = (words: RegExp) => ({ code: 'snapshot_damaged', message: words });
  assert.throws(
    () => readPageTable(join(folder, 'nothing'), { hasPages: true }),
    said(/nothing is damaged: it is missing/),
  );
  // As of a disk that fails: opened, and not read.
  assert.throws(() => openPageFile(folder), said(/is damaged: it cannot be read \(EISDIR\)/));
  await assert.rejects(verifyImage({ path: image, mapPath: folder }), said(/is damaged: it cannot be read \(EISDIR\)/));
});

test('uniting runs is uniting the sets of their pages', () => {
  const set = fc.uniqueArray(fc.nat({ max: 200 })).map((pages) => pages.sort((a, b) => a - b));
  const toRuns = (pages: readonly number[]) => {
    const builder = new RunBuilder();
    for (const at of pages) builder.add(at, 1);
    return builder.runs();
  };
  const toPages = (runs: Uint32Array) => {
    const pages: number[] = [];
    for (let index = 0; index < runs.length; index += 2)
      for (let at = 0; at < (runs[index + 1] ?? 0); at++) pages.push((runs[index] ?? 0) + at);
    return pages;
  };
  fc.assert(
    fc.property(set, set, (a, b) => {
      const united = unite(toRuns(a), toRuns(b));
      assert.deepEqual(
        toPages(united),
        [...new Set([...a, ...b])].sort((x, y) => x - y),
      );
      for (let index = 2; index < united.length; index += 2)
        assert.ok((united[index] ?? 0) > (united[index - 2] ?? 0) + (united[index - 1] ?? 0), 'runs do not touch');
    }),
  );
});
