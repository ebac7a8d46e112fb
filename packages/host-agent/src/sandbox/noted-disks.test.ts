import assert from 'node:assert/strict';
import { open, stat, truncate, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { readDiskSums, sealKey } from '../storage/disk-sums.ts';
import { machineFiles } from '../storage/machine-folder.ts';
import { until, withCode } from '../testing/sandbox-checks.ts';
import { makeTestHost, type TestHost, testSpec } from '../testing/test-host.ts';

const WITH_MEMORY = { memory: true };
const FROM_DISK = { memory: false };

async function sealOf(testHost: TestHost, sandboxId: string) {
  const { situation } = await testHost.record(sandboxId);
  assert.ok(situation.state === 'paused');
  return situation.disk;
}

async function areNoted(testHost: TestHost, sandboxId: string): Promise<boolean> {
  const sums = await readDiskSums(testHost.layout.sandboxDir(sandboxId));
  return sums?.of === sealKey(await sealOf(testHost, sandboxId));
}

/** A host with a paused sandbox, of whose disk is known what it contains. */
async function notedSandbox(t: TestContext, { memory = true, raw = false } = {}) {
  const testHost = await makeTestHost(t);
  if (raw) testHost.features.diskFormats = ['raw'];
  const { manager } = await testHost.start();
  const { sandboxId } = (await manager.create(testSpec())).result;
  await testHost.memoryOf(sandboxId).write('what it remembers');
  await manager.pause(sandboxId, { memory });
  await until('the noting', () => areNoted(testHost, sandboxId));
  const files = machineFiles(testHost.layout.sandboxDir(sandboxId));
  return { testHost, manager, sandboxId, files, seal: await sealOf(testHost, sandboxId) };
}

async function flip(path: string): Promise<void> {
  await using file = await open(path, 'r+');
  const byte = Buffer.alloc(1);
  await file.read(byte, 0, 1, 100);
  await file.write(Buffer.from([byte.readUInt8() ^ 16]), 0, 1, 100);
}

describe('of a paused sandbox it is noted in the background what its disk contains', { concurrency: 3 }, () => {
  for (const raw of [false, true])
    test(`so its ${raw ? 'raw disk' : 'layers'} may lose their times`, async (t) => {
      const { testHost, manager, sandboxId, files, seal } = await notedSandbox(t, { raw });
      for (const name of [...seal.layers, ...(raw ? [] : ['rootfs.ext4'])]) await utimes(files.layer(name), 9, 9);
      await manager.resume(sandboxId, WITH_MEMORY);
      assert.equal(await testHost.memoryOf(sandboxId).read(), 'what it remembers');
      // And it goes on so.
      await manager.pause(sandboxId, WITH_MEMORY);
      await until('the noting', () => areNoted(testHost, sandboxId));
      await manager.resume(sandboxId, WITH_MEMORY);
    });

  test('again after its layers were merged, and not by resumes and pauses that come too soon for it', async (t) => {
    const { testHost, manager, sandboxId } = await notedSandbox(t);
    const before = await sealOf(testHost, sandboxId);
    for (let round = 0; round < 5; round++) {
      await manager.resume(sandboxId, WITH_MEMORY);
      await manager.pause(sandboxId, WITH_MEMORY);
    }
    await until('the noting', () => areNoted(testHost, sandboxId));
    assert.notDeepEqual(await sealOf(testHost, sandboxId), before);
    await manager.resume(sandboxId, WITH_MEMORY);
    assert.equal(await testHost.memoryOf(sandboxId).read(), 'what it remembers');
  });

  for (const [how, memory] of [
    ['with its memory', true],
    ['of which the disk alone was kept', false],
  ] as const)
    test(`so a bit that is another is found, and nothing runs: ${how}`, async (t) => {
      const { testHost, manager, sandboxId, files, seal } = await notedSandbox(t, { memory });
      const [top = ''] = seal.layers;
      await flip(files.layer(top));
      const record = await testHost.record(sandboxId);
      for (const options of [WITH_MEMORY, FROM_DISK])
        await assert.rejects(
          manager.resume(sandboxId, options),
          withCode('snapshot_damaged', new RegExp(`${top} is damaged: its content`)),
        );
      assert.equal(manager.get(sandboxId).state, 'paused');
      assert.deepEqual(await testHost.record(sandboxId), record);
      assert.deepEqual(await testHost.leftovers(), [`sandbox folder ${sandboxId}`]);
      await flip(files.layer(top));
      await manager.resume(sandboxId, WITH_MEMORY);
    });

  test('without reading its holes', async (t) => {
    const testHost = await makeTestHost(t);
    testHost.features.diskFormats = ['raw'];
    const { manager } = await testHost.start();
    const { sandboxId } = (await manager.create(testSpec())).result;
    const folder = testHost.layout.sandboxDir(sandboxId);
    const { machine } = await testHost.running(sandboxId);
    const path = join(folder, machine.layers[0] ?? '');
    // What no machine reads within the test's time.
    await truncate(path, 2 ** 43);
    await manager.pause(sandboxId, WITH_MEMORY);
    await until('the noting', () => areNoted(testHost, sandboxId));
    const { size } = await stat(path);
    assert.equal((await readDiskSums(folder))?.files[machine.layers[0] ?? '']?.bytes, size);
  });
});
