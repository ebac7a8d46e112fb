import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { lastLines, readFileTail } from './file-tail.ts';

test('the end of a file is read, and nothing before the offset', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'nestbox-tail-'));
  t.after(() => rm(folder, { recursive: true }));
  const path = join(folder, 'log');
  assert.equal(await readFileTail(path, 10), '');
  await writeFile(path, '0123456789');
  assert.equal(await readFileTail(path, 100), '0123456789');
  assert.equal(await readFileTail(path, 3), '789');
  assert.equal(await readFileTail(path, 5, 8), '89');
  assert.equal(await readFileTail(path, 5, 11), '');
});

test('a firmware’s screen control is taken out of what it says', () => {
  const text = '\u001bc\u001b[?7l\u001b[2J\u001b[0mSeaBIOS (version 1)\r\n\r\n\u001b[31mpanic\u001b[0m\u0007\r\n';
  assert.equal(lastLines(text, 5), 'SeaBIOS (version 1)\npanic');
  assert.equal(lastLines('a\nb\nc', 2), 'b\nc');
});

test('whatever a guest writes, what is left is plain and bounded', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 3000 }), fc.integer({ min: 1, max: 10 }), (text, maxLines) => {
      const lines = lastLines(text, maxLines, 200);
      assert.ok(lines.length <= 200);
      assert.ok(lines.split('\n').length <= maxLines);
      // biome-ignore lint/suspicious/noControlCharactersInRegex: their absence is what is tested
      assert.doesNotMatch(lines, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/);
    }),
  );
});
