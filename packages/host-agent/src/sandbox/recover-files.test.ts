import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { copyFile, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { runCommand } from '@nestbox/kit';
import { createBlankImage } from '../memory/memory-image.ts';
import { DiskLayers, isLayerName } from '../storage/disk-layers.ts';
import { machineFiles, ROOTFS_NAME } from '../storage/machine-folder.ts';
import { until, withCode } from '../testing/sandbox-checks.ts';
import { makeTestHost, recordingLogger, TEST_TEMPLATE_ID, type TestHost, testSpec } from '../testing/test-host.ts';
import { fakeRunFiles } from '../vmm/fake/fake-state.ts';

/*
 * What a crash of the host agent, or of the machine, can leave at moments that are too short to hit: the files are made as
 * they would be then.
 */

const WITH_MEMORY = { memory: true };

/** A host agent that has stopped, and a sandbox of it in this state. */
async function stoppedHost(t: TestContext, state: 'running' | 'paused') {
  const testHost = await makeTestHost(t);
  const host = await testHost.start();
  const { sandboxId } = (await host.manager.create(testSpec())).result;
  await testHost.memoryOf(sandboxId).write('what it remembers');
  if (state === 'paused') await host.manager.pause(sandboxId, WITH_MEMORY);
  await host.stop();
  return { testHost, sandboxId, files: machineFiles(testHost.layout.sandboxDir(sandboxId)) };
}

async function putFiles(folder: string, names: readonly string[]): Promise<void> {
  await mkdir(folder, { recursive: true });
  for (const name of names) await writeFile(join(folder, name), 'left of a crash');
}

async function layersOf(testHost: TestHost, sandboxId: string): Promise<readonly string[]> {
  const { situation } = await testHost.record(sandboxId);
  assert.ok('machine' in situation);
  return situation.machine.layers;
}

test('a sandbox that was resumed, and whose host agent ended before it had removed the state, runs without it', async (t) => {
  const { testHost, sandboxId } = await stoppedHost(t, 'running');
  const { layout } = testHost;
  await putFiles(layout.sandboxPauseDir(sandboxId), ['pages', 'devices', 'snapshot.json']);
  await putFiles(layout.sandboxPauseDraft(sandboxId), ['pages']);
  const { manager } = await testHost.start();
  assert.equal(manager.get(sandboxId).state, 'running');
  assert.ok((await testHost.files(sandboxId)).every((name) => !name.startsWith('pause')));
  assert.equal((await manager.pause(sandboxId, WITH_MEMORY)).result.state, 'paused');
});

for (const isAgentDiskNamed of [false, true])
  test(`a sandbox that was booted from its disk has the files of that boot (${isAgentDiskNamed ? 'half' : 'not yet'} named)`, async (t) => {
    const { testHost, sandboxId, files } = await stoppedHost(t, 'running');
    // As after a boot from the disk: the VM is on the new files, under their first names.
    await rename(files.memory, `${files.memory}.next`);
    await createBlankImage(files.memory, 2 ** 20);
    if (!isAgentDiskNamed) {
      await writeFile(`${files.agentDisk}.next`, 'the agent disk of today');
      await writeFile(files.memoryMap, 'of the memory before');
    }
    const { manager } = await testHost.start();
    assert.equal(manager.get(sandboxId).state, 'running');
    const names = await testHost.files(sandboxId);
    assert.ok(
      names.every((name) => !/next|map/.test(name)),
      names.join(),
    );
    if (!isAgentDiskNamed) assert.equal(await readFile(files.agentDisk, 'utf8'), 'the agent disk of today');
    await manager.pause(sandboxId, WITH_MEMORY);
    await manager.resume(sandboxId, WITH_MEMORY);
    assert.equal(await testHost.memoryOf(sandboxId).read(), 'what it remembers');
  });

test('a paused sandbox keeps what was paused, and nothing of what was begun since', async (t) => {
  const { testHost, sandboxId } = await stoppedHost(t, 'paused');
  const before = await testHost.files(sandboxId);
  await putFiles(testHost.layout.sandboxDir(sandboxId), [
    'disk-0000abcd.qcow2',
    'memory.next',
    'agent.ext4.next',
    'sandbox.json.123.abc.tmp',
  ]);
  await putFiles(testHost.layout.sandboxPauseDraft(sandboxId), ['pages']);
  const { manager } = await testHost.start();
  assert.equal(manager.get(sandboxId).state, 'paused');
  assert.deepEqual(await testHost.files(sandboxId), before);
  await manager.resume(sandboxId, WITH_MEMORY);
  assert.equal(await testHost.memoryOf(sandboxId).read(), 'what it remembers');
});

test('layers that were merged inside a VM, which nobody came to write down, do not reach the template', async (t) => {
  const testHost = await makeTestHost(t);
  const { layout } = testHost;
  const host = await testHost.start();
  const { sandboxId } = (await host.manager.create(testSpec())).result;
  await host.manager.fork(sandboxId, []);
  await host.stop();
  const [top = '', second = ''] = await layersOf(testHost, sandboxId);
  const path = join(layout.sandboxDir(sandboxId), top);
  await runCommand('qemu-io', ['-f', 'qcow2', '-c', 'write -P 7 0 64k', path]);
  await runCommand('qemu-img', ['rebase', '-q', '-f', 'qcow2', '-F', 'raw', '-b', ROOTFS_NAME, path]);
  const raw = await readFile(layout.templateRootfs(TEST_TEMPLATE_ID));

  const { manager } = await testHost.start();
  assert.deepEqual(await layersOf(testHost, sandboxId), [top, second]);
  await manager.pause(sandboxId, WITH_MEMORY);
  await until('the merged layers', async () => (await layersOf(testHost, sandboxId)).length === 1);
  assert.deepEqual(await layersOf(testHost, sandboxId), [top]);
  assert.ok(raw.equals(await readFile(layout.templateRootfs(TEST_TEMPLATE_ID))));
  assert.equal((await manager.resume(sandboxId, WITH_MEMORY)).result.state, 'running');
});

test('no layer is removed of a VM that does not say what it writes to', async (t) => {
  const { testHost, sandboxId } = await stoppedHost(t, 'running');
  await rm(fakeRunFiles(testHost.layout.sandboxRunDir(sandboxId)).disk);
  const folder = testHost.layout.sandboxDir(sandboxId);
  const [top = ''] = await layersOf(testHost, sandboxId);
  await copyFile(join(folder, top), join(folder, 'disk-0000abcd.qcow2'));
  const { manager } = await testHost.start();
  assert.equal(manager.get(sandboxId).state, 'running');
  assert.deepEqual(new Set((await readdir(folder)).filter(isLayerName)), new Set([top, 'disk-0000abcd.qcow2']));
});

test('a VM that says only after the start what it writes to is paused and copied with that', async (t) => {
  const { testHost, sandboxId } = await stoppedHost(t, 'running');
  const { disk } = fakeRunFiles(testHost.layout.sandboxRunDir(sandboxId));
  const folder = testHost.layout.sandboxDir(sandboxId);
  const [top = ''] = await layersOf(testHost, sandboxId);
  // Two forks whose records could not be written, and then a VMM that is silent.
  const layers = new DiskLayers(testHost.layout.layerWorkDir);
  const second = await layers.create({ folder, below: top, diskMib: 1024 });
  const third = await layers.create({ folder, below: second, diskMib: 1024 });
  await rm(disk);
  const { manager } = await testHost.start();
  assert.equal(manager.get(sandboxId).state, 'running');
  await assert.rejects(manager.pause(sandboxId, WITH_MEMORY));
  assert.equal(manager.get(sandboxId).state, 'running', 'nothing is sealed that nobody knows');
  await writeFile(disk, join(folder, third));
  await manager.fork(sandboxId, []);
  assert.deepEqual((await layersOf(testHost, sandboxId)).slice(1), [third, second, top]);
  await writeFile(disk, join(folder, second));
  await manager.pause(sandboxId, WITH_MEMORY);
  await manager.resume(sandboxId, WITH_MEMORY);
  assert.equal(await testHost.memoryOf(sandboxId).read(), 'what it remembers');
  assert.ok((await layersOf(testHost, sandboxId)).every((name) => name !== third));
});

test('templates that are half there are removed, and whole ones keep what they name', async (t) => {
  const testHost = await makeTestHost(t);
  const { layout } = testHost;
  const config = { useSnapshots: true, prepareAtStart: false };
  const host = await testHost.start(config);
  const { sandboxId } = (await host.manager.create(testSpec())).result;
  await testHost.memoryOf(sandboxId).write('what it remembers');
  const { result: template } = await host.manager.snapshot(sandboxId, { templateId: 'snap', names: [] });
  await host.stop({ destroySandboxes: true });
  const before = await readdir(layout.templateDir('snap'));
  // A snapshot whose template.json was to be replaced; one that had none yet, or not any more; one that nobody can read.
  await putFiles(layout.templateSnapshotDir('snap', 'snapshot-0000abcd'), ['memory', 'devices']);
  await putFiles(layout.templateDir('snap'), ['template.json.123.abc.tmp']);
  await putFiles(layout.templateSnapshotDir('half', 'snapshot-0000abcd'), ['memory']);
  await putFiles(layout.templateDir('half'), ['rootfs.ext4']);
  await putFiles(layout.templateDir('damaged'), ['rootfs.ext4', 'template.json']);
  await putFiles(join(layout.transitDir, 'i0-0000abcd'), ['memory', 'pages']);

  const { logger, lines } = recordingLogger();
  const { manager } = await testHost.start({ ...config, logger });
  assert.deepEqual(new Set(await readdir(layout.templatesDir)), new Set([TEST_TEMPLATE_ID, 'snap', 'damaged']));
  assert.deepEqual(new Set(await readdir(layout.templateDir('snap'))), new Set(before));
  assert.ok(before.includes(template.snapshot ?? 'none'));
  assert.equal(existsSync(layout.transitDir), false);
  const copy = (await manager.create(testSpec({ templateId: 'snap' }))).result.sandboxId;
  assert.equal(await testHost.memoryOf(copy).read(), 'what it remembers');
  for (let time = 0; time < 3; time++) {
    const damaged = (await manager.templates()).filter(({ damage }) => damage !== undefined);
    assert.deepEqual(
      damaged.map(({ templateId }) => templateId),
      ['damaged'],
    );
  }
  const told = lines.filter(({ fields }) => Object(fields).templateId === 'damaged');
  assert.equal(told.length, 1, 'once');
  await assert.rejects(manager.create(testSpec({ templateId: 'damaged' })), withCode('snapshot_damaged', /damaged/));
  assert.equal(await manager.deleteTemplate('damaged'), true);
  assert.equal(existsSync(layout.templateDir('damaged')), false);
  assert.equal(await manager.deleteTemplate('damaged'), false);
});
