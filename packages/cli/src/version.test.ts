import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { NESTBOX_VERSION } from '@nestbox/contract';

test('the version that the code tells is the version of the published package', async () => {
  const manifest: unknown = JSON.parse(await readFile(new URL('../package.json', import.meta.url), 'utf8'));
  assert.equal((manifest as { version: string }).version, NESTBOX_VERSION);
});
