import assert from 'node:assert/strict';
import { cp, link, mkdir, open, readdir, readFile, rm, stat, truncate, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { readDiskSums } from '../storage/disk-sums.ts';
import { machineFiles } from '../storage/machine-folder.ts';
import { type DiskSeal, sealDisk } from '../storage/snapshot-manifest.ts';
import { temporaryFolder } from '../storage/testing/temporary-state.ts';
import { withCode } from '../testing/sandbox-checks.ts';
import { DiskGuard } from './disk-guard.ts';
import { DiskNotes } from './disk-notes.ts';
import { builtTemplateDisk, sealedDisk } from './resting-disk.ts';

const TOP = 'disk-00000001.qcow2';
const LOWER = 'disk-00000002.qcow2';
const AT = 1_700_000_000;
const RAW = 'disk-00000003.raw';
const damaged = (pattern: RegExp) => withCode('snapshot_damaged', pattern);

async function restingDisk(t: TestContext, layers = [TOP, LOWER]) {
  const folder = await temporaryFolder(t);
  const files = machineFiles(folder);
  for (const name of layers) await writeFile(files.layer(name), `what is in ${name}`);
  if (!layers.includes(RAW)) await writeFile(files.rootfs, Buffer.alloc(3 * 2 ** 20, 'template'));
  await writeFile(files.agentDisk, 'the agent disk');
  // Whole seconds, which utimes can give back.
  for (const name of await readdir(folder)) await utimes(join(folder, name), AT, AT);
  return { folder, files, seal: await sealDisk(folder, layers) };
}

function newGuard(): DiskGuard {
  return new DiskGuard(new DiskNotes());
}

function note(folder: string, seal: DiskSeal, notes = new DiskNotes()): Promise<void> {
  return notes.note(sealedDisk(folder, seal), { signal: AbortSignal.timeout(60_000) });
}

/** As a disk does it that forgets: the times stay. */
async function flip(path: string, { keepTimes = true } = {}): Promise<void> {
  const { atime, mtime } = await stat(path);
  {
    await using file = await open(path, 'r+');
    const byte = Buffer.alloc(1);
    await file.read(byte, 0, 1, 5);
    await file.write(Buffer.from([byte.readUInt8() ^ 1]), 0, 1, 5);
  }
  if (keepTimes) await utimes(path, atime, mtime);
  else await utimes(path, 1, 1);
}

test('without sums a disk is told by the size and time of its top', async (t) => {
  const { folder, files, seal } = await restingDisk(t);
  const guard = newGuard();
  await guard.requireIntact(folder, seal);
  await utimes(files.layer(LOWER), 1, 1);
  await guard.requireIntact(folder, seal);
  await utimes(files.layer(TOP), 1, 1);
  await assert.rejects(guard.requireIntact(folder, seal), damaged(/same moment/));
  await guard.requireBootable(folder, seal);
});

test('with sums a copy without its times is what was written, and is read once', async (t) => {
  for (const layers of [[TOP, LOWER], [RAW]]) {
    const { folder, seal } = await restingDisk(t, layers);
    await note(folder, seal);
    const copy = join(await temporaryFolder(t), 'copy');
    await cp(folder, copy, { recursive: true });
    for (const name of sealedDisk(copy, seal).names) await utimes(join(copy, name), 7, 7);
    await newGuard().requireIntact(copy, seal);
    const sums = await readDiskSums(copy);
    assert.ok(Object.values(sums?.files ?? {}).every(({ modifiedMs }) => modifiedMs === 7000));
    // Who reads it again sees that.
    await flip(join(copy, layers[0] ?? ''));
    await newGuard().requireIntact(copy, seal);
  }
});

for (const name of [TOP, LOWER, 'rootfs.ext4', 'agent.ext4'])
  test(`a bit of ${name} that is another is found where its time is another, and stays found`, async (t) => {
    const { folder, files, seal } = await restingDisk(t);
    await note(folder, seal);
    const path = files.layer(name);
    const right = await readFile(path);
    await flip(path, { keepTimes: false });
    const refused = damaged(new RegExp(`${name} is damaged: its content`));
    await assert.rejects(newGuard().requireIntact(folder, seal), refused);
    await utimes(path, AT, AT);
    const guard = newGuard();
    for (let time = 0; time < 2; time++) await assert.rejects(guard.requireIntact(folder, seal), refused);
    assert.match((await guard.knownDamage(sealedDisk(folder, seal))) ?? '', /its content/);
    if (name === 'agent.ext4') await guard.requireBootable(folder, seal);
    else await assert.rejects(guard.requireBootable(folder, seal), refused);
    await writeFile(path, right);
    await guard.requireIntact(folder, seal);
    assert.equal(await guard.knownDamage(sealedDisk(folder, seal)), undefined);
  });

test('a file that is missing or cut is refused, whatever its time', async (t) => {
  for (const name of [TOP, LOWER, 'rootfs.ext4', 'agent.ext4'])
    for (const [damage, pattern] of [
      [rm, /missing/],
      [(path: string) => truncate(path, 3), /has 3 bytes/],
    ] as const) {
      const { folder, files, seal } = await restingDisk(t);
      await note(folder, seal);
      await damage(files.layer(name));
      await assert.rejects(newGuard().requireIntact(folder, seal), damaged(pattern), name);
    }
});

test('sums of another moment, or damaged ones, count for nothing', async (t) => {
  const { folder, files, seal } = await restingDisk(t);
  const guard = newGuard();
  await note(folder, seal);
  // A merge writes to a file that keeps its name.
  await writeFile(files.layer(TOP), 'what was merged into it');
  const merged = await sealDisk(folder, [TOP, LOWER]);
  await guard.requireIntact(folder, merged);
  await note(folder, merged);
  await utimes(files.layer(TOP), 1, 1);
  await guard.requireIntact(folder, merged);
  const sums = join(folder, 'disk.sums');
  const text = await readFile(sums, 'utf8');
  for (const broken of [
    '',
    'no JSON',
    text.replace(/"digest": "./, '"digest": "0'),
    text.replace('"bytes": ', '"bytes": 1'),
  ]) {
    await writeFile(sums, broken);
    assert.equal(await readDiskSums(folder), undefined);
    await assert.rejects(guard.requireIntact(folder, merged), damaged(/same moment/));
  }
  await note(folder, merged);
  await guard.requireIntact(folder, merged);
});

test('a file that several folders have is read once, and what was noted first counts', async (t) => {
  const { folder, files, seal } = await restingDisk(t);
  const notes = new DiskNotes();
  const guard = new DiskGuard(notes);
  await note(folder, seal, notes);
  await flip(files.rootfs);
  const other = await temporaryFolder(t);
  for (const name of sealedDisk(folder, seal).names) await link(join(folder, name), join(other, name));
  await note(other, seal, notes);
  const digestIn = async (place: string) => (await readDiskSums(place))?.files['rootfs.ext4']?.digest;
  assert.equal(await digestIn(other), await digestIn(folder));
  await utimes(files.rootfs, 1, 1);
  await assert.rejects(guard.requireIntact(other, seal), damaged(/rootfs\.ext4 is damaged: its content/));
});

test('noting gives up when it is told to, and leaves nothing', async (t) => {
  const { folder, seal } = await restingDisk(t);
  const abort = new AbortController();
  const reason = new Error('somebody resumes it');
  const noting = new DiskNotes().note(sealedDisk(folder, seal), {
    signal: abort.signal,
    pace: async () => abort.abort(reason),
  });
  await assert.rejects(noting, reason);
  assert.equal(await readDiskSums(folder), undefined);
});

test('the disk of a template that was built is checked in the same way, before a boot', async (t) => {
  const folder = await temporaryFolder(t);
  await mkdir(folder, { recursive: true });
  const { rootfs } = machineFiles(folder);
  await writeFile(rootfs, 'the template');
  const template = { createdAtMs: 5 };
  const guard = newGuard();
  await guard.requireBuilt(folder, template);
  await new DiskNotes().note(builtTemplateDisk(folder, template), { signal: AbortSignal.timeout(60_000) });
  await utimes(rootfs, 1, 1);
  await guard.requireBuilt(folder, template);
  await flip(rootfs, { keepTimes: false });
  await utimes(rootfs, 2, 2);
  await assert.rejects(guard.requireBuilt(folder, template), damaged(/rootfs/));
  // Another template under the same name has a disk of its own.
  await guard.requireBuilt(folder, { createdAtMs: 6 });
  await rm(rootfs);
  await assert.rejects(guard.requireBuilt(folder, { createdAtMs: 6 }), damaged(/missing/));
});
