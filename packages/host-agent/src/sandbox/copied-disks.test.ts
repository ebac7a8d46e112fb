import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, open, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { runCommand } from '@nestbox/kit';
import { isLayerName } from '../storage/disk-layers.ts';
import { freeBytes } from '../storage/disk-space.ts';
import { isRawDiskFile } from '../storage/raw-disks.ts';
import { TemplateStore } from '../storage/template-store.ts';
import { until, withCode } from '../testing/sandbox-checks.ts';
import { makeTestHost, TEST_TEMPLATE_ID, type TestHost, testSpec } from '../testing/test-host.ts';

const WITH_MEMORY = { memory: true };
const SNAPSHOTS = { useSnapshots: true, prepareAtStart: false } as const;
const WRITTEN_AT = 64 * 1024;

/** From the next start on the host has a VM manager that reads raw disks alone, or one that takes layers; they differ in what a memory depends on. */
function takesDisks(testHost: TestHost, kind: 'raw' | 'layers'): void {
  testHost.features.diskFormats = kind === 'raw' ? ['raw'] : ['raw', 'qcow2'];
  testHost.failures.machine = `of ${kind}`;
}

async function makeRawHost(t: TestContext): Promise<TestHost> {
  const testHost = await makeTestHost(t);
  takesDisks(testHost, 'raw');
  return testHost;
}

async function diskOf(testHost: TestHost, sandboxId: string): Promise<string> {
  const { situation } = await testHost.record(sandboxId);
  assert.ok('machine' in situation);
  return join(testHost.layout.sandboxDir(sandboxId), situation.machine.layers[0] ?? '');
}

/** In place of the guest. */
async function write(path: string, text: string): Promise<void> {
  await using file = await open(path, 'r+');
  await file.write(text, WRITTEN_AT);
}

async function read(path: string): Promise<string> {
  await using file = await open(path, 'r');
  return (await file.read(Buffer.alloc(5), 0, 5, WRITTEN_AT)).buffer.toString('utf8').replace(/\0+$/, '');
}

async function diskFiles(testHost: TestHost, sandboxId: string): Promise<string[]> {
  return (await testHost.files(sandboxId)).filter((name) => isRawDiskFile(name) || isLayerName(name));
}

test('a sandbox has a disk of its own, of its template’s size', async (t) => {
  const testHost = await makeRawHost(t);
  const { manager } = await testHost.start();
  const { sandboxId } = (await manager.create(testSpec())).result;
  const disk = await diskOf(testHost, sandboxId);
  assert.equal((await stat(disk)).size, 1024 * 2 ** 20);
  assert.equal((await stat(disk)).nlink, 1);
  await write(disk, 'hello');
  assert.equal(await read(testHost.layout.templateRootfs(TEST_TEMPLATE_ID)), '');
  assert.equal((await manager.diskUsage()).items.find(({ id }) => id === sandboxId)?.kind, 'sandbox');
});

test('a copy has what was written by then, and the source goes on where it was', async (t) => {
  const testHost = await makeRawHost(t);
  const { manager } = await testHost.start();
  const { sandboxId } = (await manager.create(testSpec())).result;
  const disk = await diskOf(testHost, sandboxId);
  await write(disk, 'first');
  const copy = testSpec().sandboxId;
  await manager.fork(sandboxId, [{ sandboxId: copy, accessToken: undefined }]);
  await write(disk, 'later');
  assert.equal(await diskOf(testHost, sandboxId), disk);
  assert.equal(await read(await diskOf(testHost, copy)), 'first');
  await manager.snapshot(sandboxId, { templateId: 'snap', names: [] });
  await write(disk, 'after');
  const of = (await manager.create(testSpec({ templateId: 'snap' }))).result.sandboxId;
  assert.equal(await read(await diskOf(testHost, of)), 'later');
  for (const id of [sandboxId, copy, of]) await manager.destroy(id);
  assert.deepEqual(await testHost.leftovers(), []);
});

test('many pauses leave one disk each, and nothing is merged', async (t) => {
  const testHost = await makeRawHost(t);
  const { manager } = await testHost.start();
  const { sandboxId } = (await manager.create(testSpec())).result;
  await write(await diskOf(testHost, sandboxId), 'hello');
  for (let round = 0; round < 3; round++) {
    const { ino } = await stat(await diskOf(testHost, sandboxId));
    await manager.pause(sandboxId, WITH_MEMORY);
    assert.equal((await stat(await diskOf(testHost, sandboxId))).ino, ino);
    await manager.resume(sandboxId, WITH_MEMORY);
    await until('the old one to go', async () => (await diskFiles(testHost, sandboxId)).length === 1);
    assert.equal(await read(await diskOf(testHost, sandboxId)), 'hello');
  }
});

test('copies share their blocks where the file system has reflinks', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'nestbox-reflinks-'));
  const mounted = join(folder, 'mnt');
  const image = join(folder, 'xfs.img');
  await mkdir(mounted);
  await writeFile(image, '');
  await truncate(image, 2 ** 30);
  const clear = async () => {
    await runCommand('umount', ['-q', mounted]).catch(() => undefined);
    await rm(folder, { recursive: true });
  };
  try {
    await runCommand('mkfs.xfs', ['-q', '-m', 'reflink=1', image]);
    await runCommand('mount', ['-o', 'loop', image, mounted]);
  } catch (error) {
    await clear();
    t.skip(`no file system with reflinks can be made here: ${error instanceof Error ? error.message : String(error)}`);
    return;
  }
  const { TMPDIR } = process.env;
  process.env.TMPDIR = mounted;
  const testHost = await makeRawHost(t);
  if (TMPDIR === undefined) delete process.env.TMPDIR;
  else process.env.TMPDIR = TMPDIR;
  // Hooks run in the order in which they came: the host is gone by then.
  t.after(clear);
  const { manager } = await testHost.start();
  const { sandboxId } = (await manager.create(testSpec())).result;
  await writeFile(await diskOf(testHost, sandboxId), randomBytes(64 * 2 ** 20), { flag: 'r+' });
  await runCommand('sync', ['-f', mounted]);
  const before = await freeBytes(mounted);
  const copy = testSpec().sandboxId;
  await manager.fork(sandboxId, [{ sandboxId: copy, accessToken: undefined }]);
  await manager.pause(copy, WITH_MEMORY);
  await manager.resume(copy, WITH_MEMORY);
  await runCommand('sync', ['-f', mounted]);
  assert.ok(before - (await freeBytes(mounted)) < 16 * 2 ** 20);
  const [one, other] = await Promise.all(
    [sandboxId, copy].map(async (id) =>
      readFile(await diskOf(testHost, id)).then((bytes) => bytes.subarray(0, 2 ** 26)),
    ),
  );
  assert.ok(one !== undefined && other !== undefined && one.equals(other));
});

test('a paused sandbox with layers stays as it is under a VM manager that does not read them', async (t) => {
  const testHost = await makeTestHost(t);
  takesDisks(testHost, 'layers');
  const before = await testHost.start();
  const { sandboxId } = (await before.manager.create(testSpec())).result;
  await before.manager.pause(sandboxId, WITH_MEMORY);
  await before.stop();
  const files = await testHost.files(sandboxId);
  const record = await testHost.record(sandboxId);

  takesDisks(testHost, 'raw');
  const between = await testHost.start();
  const { manager } = between;
  assert.equal(manager.get(sandboxId).state, 'paused');
  await assert.rejects(manager.resume(sandboxId, WITH_MEMORY), withCode('snapshot_incompatible', /of layers.*of raw/));
  await assert.rejects(
    manager.resume(sandboxId, { memory: false }),
    withCode('snapshot_incompatible', /layers.*--vmm/),
  );
  await assert.rejects(manager.fork(sandboxId, []), withCode('sandbox_paused'));
  assert.deepEqual(await testHost.files(sandboxId), files);
  assert.deepEqual(await testHost.record(sandboxId), record);
  await between.stop();

  takesDisks(testHost, 'layers');
  const after = await testHost.start();
  await after.manager.resume(sandboxId, WITH_MEMORY);
  await after.manager.destroy(sandboxId);
  assert.deepEqual(await testHost.leftovers(), []);
});

test('a paused sandbox with a raw disk boots from it under one that takes layers, and is paused as before when that fails', async (t) => {
  const testHost = await makeRawHost(t);
  const before = await testHost.start();
  const { sandboxId } = (await before.manager.create(testSpec())).result;
  const disk = await diskOf(testHost, sandboxId);
  await write(disk, 'hello');
  await before.manager.pause(sandboxId, WITH_MEMORY);
  await before.stop();

  takesDisks(testHost, 'layers');
  const { manager } = await testHost.start();
  await assert.rejects(manager.resume(sandboxId, WITH_MEMORY), withCode('snapshot_incompatible'));
  testHost.failures.diesDuringBoot = true;
  for (let round = 0; round < 2; round++) {
    await assert.rejects(manager.resume(sandboxId, { memory: false }), withCode('vm_died'));
    assert.equal(await read(disk), 'hello');
    assert.deepEqual((await diskFiles(testHost, sandboxId)).length, 1);
  }
  testHost.failures.diesDuringBoot = false;
  await manager.resume(sandboxId, { memory: false });
  await until('the name to go', () => !existsSync(disk));
  const { machine } = await testHost.running(sandboxId);
  assert.ok(machine.layers.every(isLayerName));
  assert.equal(await read(join(testHost.layout.sandboxDir(sandboxId), 'rootfs.ext4')), 'hello');
  await manager.pause(sandboxId, WITH_MEMORY);
  await manager.resume(sandboxId, WITH_MEMORY);
  await manager.destroy(sandboxId);
  assert.deepEqual(await testHost.leftovers(), []);
});

test('the snapshot of a template that was built is renewed when it is of another VM manager, and its disk stays', async (t) => {
  const testHost = await makeTestHost(t);
  const templates = new TemplateStore(testHost.layout);
  const pristine = await readFile(testHost.layout.templateRootfs(TEST_TEMPLATE_ID));
  let last: string | undefined;
  for (const kind of ['layers', 'raw', 'layers'] as const) {
    takesDisks(testHost, kind);
    const host = await testHost.start(SNAPSHOTS);
    await host.manager.prepareTemplates();
    const { snapshot } = await templates.get(TEST_TEMPLATE_ID);
    assert.ok(snapshot !== undefined && snapshot !== last);
    last = snapshot;
    const names = await readdir(testHost.layout.templateSnapshotDir(TEST_TEMPLATE_ID, snapshot));
    assert.equal(names.some(isLayerName), kind === 'layers');
    assert.equal(names.some(isRawDiskFile), kind === 'raw');
    const { result, stages } = await host.manager.create(testSpec());
    assert.ok(stages.some(({ name }) => name === 'restore'));
    if (kind === 'raw') await write(await diskOf(testHost, result.sandboxId), 'hello');
    assert.ok(pristine.equals(await readFile(testHost.layout.templateRootfs(TEST_TEMPLATE_ID))));
    await host.stop({ destroySandboxes: true });
  }
});

test('a named snapshot of another VM manager boots from its disk where that can be read, and is refused where not', async (t) => {
  const testHost = await makeTestHost(t);
  const snapshotOn = async (kind: 'raw' | 'layers') => {
    takesDisks(testHost, kind);
    const host = await testHost.start(SNAPSHOTS);
    await host.manager.prepareTemplates();
    const { sandboxId } = (await host.manager.create(testSpec())).result;
    if (kind === 'raw') await write(await diskOf(testHost, sandboxId), 'hello');
    await host.manager.snapshot(sandboxId, { templateId: `snap-${kind}`, names: [] });
    await host.stop({ destroySandboxes: true });
  };
  await snapshotOn('layers');
  await snapshotOn('raw');
  const raw = await testHost.start(SNAPSHOTS);
  await assert.rejects(
    raw.manager.create(testSpec({ templateId: 'snap-layers' })),
    withCode('snapshot_incompatible', /layers/),
  );
  assert.deepEqual(await testHost.leftovers(), []);
  await raw.stop();
  takesDisks(testHost, 'layers');
  const { manager } = await testHost.start(SNAPSHOTS);
  const { result, stages } = await manager.create(testSpec({ templateId: 'snap-raw' }));
  assert.ok(!stages.some(({ name }) => name === 'restore'));
  assert.equal(await read(join(testHost.layout.sandboxDir(result.sandboxId), 'rootfs.ext4')), 'hello');
  await manager.destroy(result.sandboxId);
  assert.deepEqual(await testHost.leftovers(), []);
});

test('a host agent whose VM manager is another than that of VMs that run does not start, and touches nothing', async (t) => {
  const testHost = await makeTestHost(t);
  const before = await testHost.start();
  const { sandboxId } = (await before.manager.create(testSpec())).result;
  await before.stop();
  const files = await testHost.files(sandboxId);
  await assert.rejects(
    testHost.start({ driver: Object.assign(testHost.context().driver, { name: 'firecracker' }) }),
    withCode('conflict', new RegExp(`run on fake \\(${sandboxId}\\).*--vmm fake`)),
  );
  assert.deepEqual(await testHost.files(sandboxId), files);
  const { manager } = await testHost.start();
  assert.equal((await manager.metrics(sandboxId)).cpuCount, 2);
});
