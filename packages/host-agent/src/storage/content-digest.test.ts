import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { open, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { runCommand } from '@nestbox/kit';
import { contentDigest } from './content-digest.ts';
import { temporaryFolder } from './testing/temporary-state.ts';

const MIB = 2 ** 20;

/** A file with something in its second and last MiB, and holes between. */
async function sparseFile(t: TestContext, bytes = 20 * MIB + 77) {
  const folder = await temporaryFolder(t);
  const path = join(folder, 'disk');
  await using file = await open(path, 'wx');
  await file.truncate(bytes);
  await file.write(Buffer.from('in the second'), 0, 13, MIB + 5000);
  await file.write(Buffer.from('at the end'), 0, 10, bytes - 10);
  return { folder, path, bytes };
}

async function flip(path: string, at: number): Promise<void> {
  await using file = await open(path, 'r+');
  const byte = Buffer.alloc(1);
  await file.read(byte, 0, 1, at);
  byte.writeUInt8(byte.readUInt8() ^ 4);
  await file.write(byte, 0, 1, at);
}

test('holes and zeros are the same content, however a file was copied', async (t) => {
  const { folder, path, bytes } = await sparseFile(t);
  const digest = await contentDigest(path);
  assert.match(digest, /^[0-9a-f]{64}$/);
  for (const [name, option] of [
    ['zeros', '--sparse=never'],
    ['holes', '--sparse=always'],
  ] as const) {
    const copy = join(folder, name);
    await runCommand('cp', [option, path, copy]);
    assert.equal(await contentDigest(copy), digest, name);
  }
  const filled = join(folder, 'zeros');
  assert.ok((await stat(filled)).blocks * 512 >= bytes, 'the zeros were written');
});

test('one bit makes another content, wherever it is: in data, in a hole, at the end', async (t) => {
  const { path, bytes } = await sparseFile(t);
  const digest = await contentDigest(path);
  for (const at of [0, MIB + 5003, 7 * MIB, bytes - 1]) {
    await flip(path, at);
    assert.notEqual(await contentDigest(path), digest, `at ${at}`);
    await flip(path, at);
    assert.equal(await contentDigest(path), digest);
  }
});

test('so do another length of zeros, and the same data at another place', async (t) => {
  const { folder, path, bytes } = await sparseFile(t);
  const digest = await contentDigest(path);
  await truncate(path, bytes + 1);
  assert.notEqual(await contentDigest(path), digest);
  const [first, second] = [join(folder, 'first'), join(folder, 'second')];
  for (const [name, place] of [
    [first, 1],
    [second, 2],
  ] as const) {
    await using file = await open(name, 'wx');
    await file.truncate(4 * MIB);
    await file.write(Buffer.alloc(MIB, 1), 0, MIB, place * MIB);
  }
  assert.notEqual(await contentDigest(first), await contentDigest(second));
});

test('it is what its description says', async (t) => {
  const folder = await temporaryFolder(t);
  const path = join(folder, 'disk');
  const part = Buffer.alloc(1000, 9);
  await writeFile(path, Buffer.concat([Buffer.alloc(MIB), part]));
  const number = (value: number) => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(BigInt(value));
    return bytes;
  };
  const inner = createHash('sha256').update(part).digest();
  const expected = createHash('sha256')
    .update(number(1))
    .update(inner)
    .update(number(MIB + 1000));
  assert.equal(await contentDigest(path), expected.digest('hex'));
  const empty = join(folder, 'empty');
  await writeFile(empty, '');
  assert.equal(await contentDigest(empty), createHash('sha256').update(number(0)).digest('hex'));
});

test('holes are not read, and between what is read others get their turn', async (t) => {
  const { path } = await sparseFile(t, 2 ** 40);
  let turns = 0;
  await contentDigest(path, { pace: async () => void turns++ });
  assert.equal(turns, 2);
  const abort = new AbortController();
  const reason = new Error('somebody needs the disk');
  const digest = contentDigest(path, { signal: abort.signal, pace: async () => abort.abort(reason) });
  await assert.rejects(digest, reason);
  await assert.rejects(contentDigest(join(path, 'no')), /ENOTDIR/);
});
