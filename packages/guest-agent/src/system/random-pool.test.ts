import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { RandomPool, randomHex } from './random-pool.ts';

const skip = process.getuid?.() !== 0 && 'needs root';

test('the pool takes entropy and is reseeded, with and without it', { skip }, () => {
  const pool = new RandomPool();
  pool.reseed(Buffer.alloc(64, 0xa5));
  pool.reseed(new Uint8Array());
});

test('random text has the length asked for and does not repeat', () => {
  const drawn = Array.from({ length: 1000 }, () => randomHex(16));
  for (const text of drawn) assert.match(text, /^[0-9a-f]{32}$/);
  assert.equal(new Set(drawn).size, drawn.length);
  assert.equal(randomHex(256).length, 512);
});

/** Generators in the agent's own memory go on in the same way in every machine restored from one snapshot. */
test('no part of the agent draws from a generator that restored machines would share', async () => {
  const sources = join(import.meta.dirname, '..');
  for (const name of await readdir(sources, { recursive: true })) {
    if (!name.endsWith('.ts') || name.endsWith('.test.ts') || name.startsWith('testing/')) continue;
    const text = await readFile(join(sources, name), 'utf8');
    assert.doesNotMatch(
      text,
      /\b(?:Math\.random|randomUUID|randomBytes|randomInt|randomFill\w*|getRandomValues)\(/,
      `${name} must use randomHex of system/random-pool.ts`,
    );
  }
});
