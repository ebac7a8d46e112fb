import assert from 'node:assert/strict';
import { appendFile, mkdtemp, open, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { limitConsoleLog, waitForText } from './console.ts';

async function makeLog(t: TestContext, content: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'nestbox-console-'));
  t.after(() => rm(folder, { recursive: true }));
  const path = join(folder, 'console.log');
  await writeFile(path, content);
  return path;
}

test('a text is found when it comes, also in pieces and across buffers', { timeout: 20_000 }, async (t) => {
  const path = await makeLog(t, '');
  const waiting = waitForText(path, 'MARK', 0, new AbortController().signal);
  // The marker lies across the end of the 16 KiB that are read at once.
  await appendFile(path, 'x'.repeat(16 * 1024 - 2));
  for (const piece of ['MA', 'MA', 'R', 'K']) await appendFile(path, piece);
  await waiting;
});

test('what stood there before this boot does not count', async (t) => {
  const path = await makeLog(t, 'MARK');
  await assert.rejects(waitForText(path, 'MARK', 4, AbortSignal.timeout(60)), { name: /TimeoutError|AbortError/ });
  await waitForText(path, 'MARK', 0, new AbortController().signal);
});

test('waiting ends with its signal', async (t) => {
  const path = await makeLog(t, '');
  const abort = new AbortController();
  const waiting = waitForText(path, 'MARK', 0, abort.signal);
  abort.abort();
  await assert.rejects(waiting);
});

test('a log below its limit stays as it is', async (t) => {
  const path = await makeLog(t, 'short');
  assert.equal(await limitConsoleLog(path, { maxBytes: 5, keptBytes: 2 }), false);
  assert.equal(await readFile(path, 'utf8'), 'short');
  assert.equal(await limitConsoleLog(join(path, '..', 'missing')), false);
});

test('a log above its limit keeps its end, and its writer goes on behind it', async (t) => {
  const path = await makeLog(t, '');
  await using writer = await open(path, 'a');
  await writer.write('old '.repeat(1000));
  assert.equal(await limitConsoleLog(path, { maxBytes: 1000, keptBytes: 8 }), true);
  await writer.write('new');
  assert.equal(await readFile(path, 'utf8'), '[nestbox: older output was dropped]\nold old \nnew');
  assert.ok((await stat(path)).size < 100);
});
