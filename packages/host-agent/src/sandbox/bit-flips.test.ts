import assert from 'node:assert/strict';
import { mkdtemp, open, readdir, readFile, rm, stat, truncate, utimes } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join, relative } from 'node:path';
import { type TestContext, test } from 'node:test';
import { runCommand } from '@nestbox/kit';
import type { HostAgentConfig } from '../host-agent.ts';
import { readDiskSums } from '../storage/disk-sums.ts';
import { TemplateStore } from '../storage/template-store.ts';
import { until, withCode } from '../testing/sandbox-checks.ts';
import { makeTestHost, type TestHost, testSpec } from '../testing/test-host.ts';
import type { SandboxManager } from './sandbox.ts';

const CONFIG: Partial<HostAgentConfig> = {
  useSnapshots: true,
  prepareAtStart: false,
  scrub: { intervalMs: 0, noteAfterMs: 10 },
};
/** What says nothing of the guest: its console, and what is only made anew when it is damaged. */
const NOTHING_OF_THE_GUEST = new Set(['console.log', 'disk.sums']);

/** A host with a snapshot of a sandbox, and a sandbox of that snapshot which is paused; all of it noted. It is stopped. */
async function restingHost(t: TestContext) {
  const testHost = await makeTestHost(t);
  const { layout } = testHost;
  const host = await testHost.start(CONFIG);
  await host.manager.prepareTemplates();
  testHost.failures.changedPages = 16;
  const source = (await host.manager.create(testSpec())).result.sandboxId;
  await testHost.memoryOf(source).write('what it remembers');
  await host.manager.snapshot(source, { templateId: 'snap', names: [] });
  const { sandboxId } = (await host.manager.create(testSpec({ templateId: 'snap' }))).result;
  await host.manager.pause(sandboxId, { memory: true });
  await host.manager.destroy(source);
  const { snapshot = '' } = await new TemplateStore(layout).get('snap');
  const folders = [layout.sandboxDir(sandboxId), layout.templateSnapshotDir('snap', snapshot)];
  await until('the noting', async () =>
    (await Promise.all(folders.map((folder) => readDiskSums(folder)))).every((sums) => sums !== undefined),
  );
  await host.stop();
  return { testHost, sandboxId };
}

async function filesBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile() && !NOTHING_OF_THE_GUEST.has(entry.name))
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
}

/** Where a bit says something: in JSON a digit, not the space between the words. */
async function placeIn(path: string): Promise<number> {
  const { size } = await stat(path);
  const middle = Math.floor(size / 2);
  if (!path.endsWith('.json')) return middle;
  const text = await readFile(path, 'latin1');
  const digit = text.slice(middle).search(/[0-9]/);
  return digit < 0 ? text.search(/[0-9]/) : middle + digit;
}

async function flip(path: string): Promise<void> {
  const at = await placeIn(path);
  await using file = await open(path, 'r+');
  const byte = Buffer.alloc(1);
  await file.read(byte, 0, 1, at);
  await file.write(Buffer.from([byte.readUInt8() ^ 1]), 0, 1, at);
}

interface Damage {
  readonly what: string;
  readonly how: (path: string, backup: string) => Promise<unknown>;
  /** It has kept its times: read everything first. */
  readonly isSilent?: boolean;
}

const DAMAGES: readonly Damage[] = [
  {
    what: 'with another bit',
    how: async (path) => {
      await flip(path);
      await utimes(path, 5, 5);
    },
  },
  {
    what: 'with another bit and the same times',
    how: async (path, backup) => {
      await flip(path);
      await runCommand('touch', ['-r', backup, path]);
    },
    isSilent: true,
  },
  { what: 'that was cut', how: async (path) => truncate(path, Math.floor((await stat(path)).size / 2)) },
  { what: 'that is empty', how: (path) => truncate(path, 0) },
  { what: 'that is missing', how: (path) => rm(path) },
];

/** Damages each file in each way, one at a time, while no server runs; after it everything is as it was. */
async function forEachDamage(
  t: TestContext,
  testHost: TestHost,
  files: readonly string[],
  check: (manager: SandboxManager, path: string, damage: Damage) => Promise<void>,
): Promise<void> {
  const place = await mkdtemp(join(tmpdir(), 'nestbox-backup-'));
  t.after(() => rm(place, { recursive: true, force: true }));
  const backup = join(place, 'backup');
  for (const path of files)
    for (const damage of DAMAGES) {
      await rm(backup, { force: true });
      await runCommand('cp', ['-a', path, backup]);
      await damage.how(path, backup);
      const host = await testHost.start({ ...CONFIG, scrub: { intervalMs: 0, noteAfterMs: 3_600_000 } });
      const words = `${relative(testHost.paths.stateDir, path)} ${damage.what}`;
      try {
        if (damage.isSilent) await verifyAll(host.manager);
        await check(host.manager, path, damage);
      } catch (error) {
        throw new Error(words, { cause: error });
      }
      await host.stop();
      // Into the file that others have too; with the times that it had.
      await runCommand('sh', ['-c', 'cat "$1" > "$2" && touch -r "$1" "$2"', 'sh', backup, path]);
    }
}

async function verifyAll(manager: SandboxManager): Promise<void> {
  manager.verifyDisk();
  await until('the round', async () => !(await manager.diskUsage()).isVerifying);
}

test('a paused sandbox of which a file is not what was written is refused, and says which it is', async (t) => {
  const { testHost, sandboxId } = await restingHost(t);
  const folder = testHost.layout.sandboxDir(sandboxId);
  const files = await filesBelow(folder);
  // Without a record nobody knows that there was a sandbox: that is what a create leaves that was interrupted.
  const record = join(folder, 'sandbox.json');
  const kinds = new Set(files.map((path) => basename(path).replace(/^disk-\w+/, 'layer')));
  assert.deepEqual(
    kinds,
    new Set([
      ...['agent.ext4', 'rootfs.ext4', 'layer.qcow2', 'memory', 'memory.map'],
      ...['pages', 'devices', 'snapshot.json', 'sandbox.json'],
    ]),
  );
  await forEachDamage(
    t,
    testHost,
    files.filter((path) => path !== record),
    async (manager, path) => {
      const saysWhich = new RegExp(`${basename(path)} is (?:damaged|missing)`);
      await assert.rejects(manager.resume(sandboxId, { memory: true }), withCode('snapshot_damaged', saysWhich));
      assert.equal(manager.get(sandboxId).state, 'paused');
      assert.match(manager.get(sandboxId).damage ?? '', saysWhich);
      assert.deepEqual(await testHost.leftovers(), [`sandbox folder ${sandboxId}`]);
    },
  );
  const { manager } = await testHost.start(CONFIG);
  await manager.resume(sandboxId, { memory: true });
  assert.equal(await testHost.memoryOf(sandboxId).read(), 'what it remembers');
});

test('a paused sandbox whose record is not what was written is kept and refused, and can be ended', async (t) => {
  const { testHost, sandboxId } = await restingHost(t);
  const record = testHost.layout.sandboxRecord(sandboxId);
  const right = await readFile(record);
  for (const damage of [flip, async () => truncate(record, 20), async () => truncate(record, right.length - 40)]) {
    await damage(record);
    const host = await testHost.start(CONFIG);
    assert.equal(host.manager.get(sandboxId).state, 'paused');
    const saysWhich = /record of sandbox .* is damaged: sandbox\.json/;
    assert.match(host.manager.get(sandboxId).damage ?? '', saysWhich);
    for (const memory of [true, false])
      await assert.rejects(host.manager.resume(sandboxId, { memory }), withCode('snapshot_damaged', saysWhich));
    await verifyAll(host.manager);
    const { items } = await host.manager.diskUsage();
    assert.match(items.find(({ id }) => id === sandboxId)?.damage ?? '', saysWhich);
    assert.deepEqual(await testHost.leftovers(), [`sandbox folder ${sandboxId}`]);
    await host.stop();
    await runCommand('sh', ['-c', 'printf %s "$1" > "$2"', 'sh', right.toString(), record]);
  }
  const mended = await testHost.start(CONFIG);
  await mended.manager.resume(sandboxId, { memory: true });
  assert.equal(await testHost.memoryOf(sandboxId).read(), 'what it remembers');
  await mended.manager.pause(sandboxId, { memory: true });
  await mended.stop();
  await flip(record);
  const { manager } = await testHost.start(CONFIG);
  assert.equal(await manager.destroy(sandboxId), true);
  assert.deepEqual(await testHost.leftovers(), []);
});

test('a snapshot of which a file is not what was written is refused, and says which it is', async (t) => {
  const { testHost, sandboxId } = await restingHost(t);
  const folder = testHost.layout.templateDir('snap');
  // Without its file it is no template: that is what a snapshot leaves that was interrupted. Its disk is there twice.
  const left = new Set([join(folder, 'template.json'), join(folder, 'rootfs.ext4')]);
  const files = (await filesBelow(folder)).filter((path) => !left.has(path));
  assert.ok(files.length >= 8, files.join());
  const check = async (manager: SandboxManager, path: string) => {
    const saysWhich = new RegExp(`${basename(path)}.*(?:damaged|missing|checksum)|damaged.*${basename(path)}`);
    const spec = testSpec({ templateId: 'snap' });
    await assert.rejects(manager.create(spec), withCode('snapshot_damaged', saysWhich));
    const listed = (await manager.templates()).find(({ templateId }) => templateId === 'snap');
    assert.match(listed?.damage ?? '', new RegExp(basename(path)));
    assert.deepEqual(await testHost.leftovers(), [`sandbox folder ${sandboxId}`]);
  };
  await forEachDamage(t, testHost, files, check);
  const template = join(folder, 'template.json');
  const right = await readFile(template);
  for (const damage of [flip, async () => truncate(template, 20), async () => truncate(template, 0)]) {
    await damage(template);
    const host = await testHost.start(CONFIG);
    await check(host.manager, template);
    await host.stop();
    await runCommand('sh', ['-c', 'printf %s "$1" > "$2"', 'sh', right.toString(), template]);
  }
  const { manager } = await testHost.start(CONFIG);
  const { result } = await manager.create(testSpec({ templateId: 'snap' }));
  assert.equal(await testHost.memoryOf(result.sandboxId).read(), 'what it remembers');
});
