import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, statSync, utimesSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { editFile } from './edit-file.ts';

test('a file holds what it was last edited to, longer or shorter, and stays the same file', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'nestbox-edit-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'file');
  editFile(path, (text) => {
    assert.equal(text, '');
    return 'first';
  });
  const { ino } = statSync(path);
  let last = 'first';
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme', maxLength: 40 }), (next) => {
      editFile(path, (text) => {
        assert.equal(text, last);
        return next;
      });
      last = next;
      assert.equal(readFileSync(path, 'utf8'), next);
    }),
  );
  assert.equal(statSync(path).ino, ino);
});

test('a file that stays as it was is not written, and one that cannot be had is an error', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'nestbox-edit-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'file');
  editFile(path, () => 'as it was');
  utimesSync(path, 1, 1);
  editFile(path, (text) => text);
  assert.equal(statSync(path).mtimeMs, 1000);
  assert.throws(() => editFile(join(folder, 'nowhere', 'file'), () => ''), { code: 'ENOENT' });
});
