import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { ComparedMemory } from './compared-memory.ts';
import { PAGE_BYTES } from './page-runs.ts';

test('what differs from the image is found page by page, over the borders of the pieces that are read', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'nestbox-compare-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const pages = 1000;
  const image = Buffer.alloc(pages * PAGE_BYTES, 7);
  const now = Buffer.from(image);
  // One alone, two on both sides of a piece's end, the last one, one that became zero.
  for (const page of [3, 255, 256, 999]) now[page * PAGE_BYTES + 17] = 8;
  now.fill(0, 500 * PAGE_BYTES, 501 * PAGE_BYTES);
  writeFileSync(join(folder, 'image'), image);
  writeFileSync(join(folder, 'now'), now);
  const file = openSync(join(folder, 'now'), 'r');
  t.after(() => closeSync(file));
  const memory = await ComparedMemory.compare(file, join(folder, 'image'), image.length);
  assert.deepEqual([...memory.changedPages()], [3, 1, 255, 2, 500, 1, 999, 1]);
  const page = Buffer.alloc(PAGE_BYTES, 1);
  memory.read(500, page);
  assert.ok(page.equals(Buffer.alloc(PAGE_BYTES)));
});
