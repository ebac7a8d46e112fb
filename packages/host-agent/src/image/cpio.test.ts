import assert from 'node:assert/strict';
import { lstat, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { runCommand } from '@nestbox/kit';
import fc from 'fast-check';
import { type CpioEntry, packCpio } from './cpio.ts';
import { temporaryFolder } from './testing/temporary-folder.ts';

async function unpack(archive: Uint8Array, folder: string): Promise<void> {
  await runCommand('busybox', ['cpio', '-i', '-d', '-m'], { cwd: folder, input: archive });
}

test('cpio unpacks folders, files, links and modes as they were given', async (t) => {
  const folder = await temporaryFolder(t);
  const entries: CpioEntry[] = [
    { kind: 'directory', path: 'bin', mode: 0o755 },
    { kind: 'file', path: 'bin/tool', mode: 0o755, content: Buffer.from('#!/bin/sh\n') },
    { kind: 'file', path: 'empty', mode: 0o400, content: new Uint8Array(0) },
    { kind: 'symlink', path: 'bin/alias', target: 'tool' },
  ];
  await unpack(packCpio(entries), folder);
  assert.equal(await readFile(join(folder, 'bin/tool'), 'utf8'), '#!/bin/sh\n');
  assert.equal((await lstat(join(folder, 'bin/tool'))).mode & 0o7777, 0o755);
  assert.equal((await lstat(join(folder, 'empty'))).size, 0);
  assert.equal(await readlink(join(folder, 'bin/alias')), 'tool');
});

const skip = process.geteuid?.() === 0 ? false : 'making a device needs root';

test('the console device has its numbers in the archive', { skip }, async (t) => {
  const folder = await temporaryFolder(t);
  await unpack(packCpio([{ kind: 'character-device', path: 'console', mode: 0o600, major: 5, minor: 1 }]), folder);
  const stats = await lstat(join(folder, 'console'));
  assert.ok(stats.isCharacterDevice());
  assert.equal(stats.rdev, (5 << 8) | 1);
});

test('files of every length come out with the bytes that went in', async (t) => {
  const folder = await temporaryFolder(t);
  const contents = fc.sample(fc.uint8Array({ maxLength: 70 }), 40);
  const entries = contents.map(
    (content, index): CpioEntry => ({ kind: 'file', path: `f${'x'.repeat(index % 9)}${index}`, mode: 0o644, content }),
  );
  await unpack(packCpio(entries), folder);
  for (const [index, content] of contents.entries()) {
    const found = await readFile(join(folder, `f${'x'.repeat(index % 9)}${index}`));
    assert.deepEqual([...found], [...content]);
  }
});
