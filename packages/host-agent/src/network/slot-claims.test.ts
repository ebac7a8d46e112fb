import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { SlotClaims } from './slot-claims.ts';

async function slotsDir(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'nestbox-slots-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return join(folder, 'run', 'slots');
}

test('an index goes to one installation only, and to the next when it is given back', async (t) => {
  const dir = await slotsDir(t);
  const [a, b] = [new SlotClaims(dir, 'aaaaaa'), new SlotClaims(dir, 'bbbbbb')];
  assert.equal(await a.claim(5), true);
  assert.equal(await a.claim(5), false);
  assert.equal(await b.claim(5), false);
  assert.equal(await b.holder(5), 'aaaaaa');
  await b.release(5);
  assert.equal(await b.holder(5), 'aaaaaa');
  await a.release(5);
  await a.release(5);
  assert.equal(await b.claim(5), true);
  assert.equal((await readFile(join(dir, '5'), 'utf8')).trim(), 'bbbbbb');
});

test('each installation lists its own claims', async (t) => {
  const dir = await slotsDir(t);
  const [a, b] = [new SlotClaims(dir, 'aaaaaa'), new SlotClaims(dir, 'bbbbbb')];
  assert.deepEqual(await a.list(), []);
  for (const index of [32_767, 2, 10]) await a.claim(index);
  await b.claim(3);
  await writeFile(join(dir, 'README'), 'aaaaaa');
  await writeFile(join(dir, '40000'), 'aaaaaa');
  assert.deepEqual(await a.list(), [2, 10, 32_767]);
  assert.deepEqual(await b.list(), [3]);
});

test('of many that want one index at once exactly one gets it', async (t) => {
  const dir = await slotsDir(t);
  const rivals = Array.from({ length: 20 }, (_, i) => new SlotClaims(dir, `${i}`.padStart(6, '0')));
  const won = await Promise.all(rivals.map((claims) => claims.claim(1)));
  assert.equal(won.filter(Boolean).length, 1);
  const winner = `${won.indexOf(true)}`.padStart(6, '0');
  assert.equal(await rivals[0]?.holder(1), winner);
});

test('a claim is complete as soon as it is there, and making one leaves no other file', async (t) => {
  const dir = await slotsDir(t);
  const claims = new SlotClaims(dir, 'aaaaaa');
  await claims.claim(1);
  await claims.release(1);
  assert.deepEqual(await readdir(dir), ['.aaaaaa']);
});

test('an installation that has no claim any more leaves no file, and can claim again', async (t) => {
  const dir = await slotsDir(t);
  const claims = new SlotClaims(dir, 'aaaaaa');
  await claims.leave();
  await claims.claim(7);
  await claims.leave();
  assert.equal(await claims.holder(7), 'aaaaaa');
  await claims.release(7);
  await claims.leave();
  assert.deepEqual(await readdir(dir), []);
  assert.equal(await claims.claim(7), true);
});
