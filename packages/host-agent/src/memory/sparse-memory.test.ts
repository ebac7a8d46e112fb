import assert from 'node:assert/strict';
import { closeSync, ftruncateSync, mkdtempSync, openSync, readdirSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { PAGE_BYTES } from './page-runs.ts';
import { requireExactHoles, SparseMemory } from './sparse-memory.ts';

const PAGES = 512;

test('pages of a sparse file are those that were written, zeros included, and holes are none', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'nestbox-sparse-'));
  t.after(() => rmSync(folder, { recursive: true }));
  requireExactHoles(folder);
  assert.deepEqual(readdirSync(folder), []);
  const path = join(folder, 'changes');
  const file = openSync(path, 'wx');
  ftruncateSync(file, PAGES * PAGE_BYTES);
  {
    using blank = SparseMemory.open(path, PAGES * PAGE_BYTES);
    assert.deepEqual([...blank.changedPages()], []);
  }
  const write = (page: number, value: number) =>
    writeSync(file, Buffer.alloc(PAGE_BYTES, value), 0, PAGE_BYTES, page * PAGE_BYTES);
  write(3, 7);
  write(4, 0);
  write(200, 0);
  write(PAGES - 1, 9);
  closeSync(file);
  using memory = SparseMemory.open(path, PAGES * PAGE_BYTES);
  assert.deepEqual([...memory.changedPages()], [3, 2, 200, 1, PAGES - 1, 1]);
  const page = Buffer.alloc(PAGE_BYTES, 1);
  memory.read(4, page);
  assert.ok(page.equals(Buffer.alloc(PAGE_BYTES)));
  assert.throws(() => SparseMemory.open(path, PAGE_BYTES), { code: 'internal', message: /bytes/ });
});
