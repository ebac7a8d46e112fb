import assert from 'node:assert/strict';
import { open, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import type { HostAgentConfig } from '../host-agent.ts';
import { readDiskSums } from '../storage/disk-sums.ts';
import { machineFiles } from '../storage/machine-folder.ts';
import { TemplateStore } from '../storage/template-store.ts';
import { until, withCode } from '../testing/sandbox-checks.ts';
import { makeTestHost, recordingLogger, TEST_TEMPLATE_ID, type TestHost, testSpec } from '../testing/test-host.ts';
import type { SandboxManager } from './sandbox.ts';

const WITH_MEMORY = { memory: true };
const ALL_LINES = { cursorMs: undefined, limit: 100, backward: false, minLevel: 'debug', search: '' } as const;
/** Nothing by itself. */
const ON_DEMAND = { intervalMs: 0, noteAfterMs: 3_600_000 };

async function hostWith(t: TestContext, config: Partial<HostAgentConfig> = {}) {
  const testHost = await makeTestHost(t);
  const { logger, lines } = recordingLogger();
  const start = () => testHost.start({ scrub: ON_DEMAND, prepareAtStart: false, logger, ...config });
  const host = await start();
  return { testHost, host, manager: host.manager, lines, start };
}

async function verify(manager: SandboxManager): Promise<Record<string, string | undefined>> {
  const before = (await manager.diskUsage()).verifiedAtMs;
  manager.verifyDisk();
  assert.equal((await manager.diskUsage()).isVerifying, true);
  await until('the round', async () => !(await manager.diskUsage()).isVerifying);
  const { items, verifiedAtMs } = await manager.diskUsage();
  assert.ok((verifiedAtMs ?? 0) > (before ?? 0));
  const damaged = items.filter(({ damage }) => damage !== undefined);
  return Object.fromEntries(damaged.map(({ id, damage }) => [id, damage]));
}

/** As a disk does it that forgets: nothing but the bit is another. */
async function rot(path: string): Promise<void> {
  const at = 1_600_000_000;
  const { size } = await stat(path);
  await using file = await open(path, 'r+');
  const byte = Buffer.alloc(1);
  await file.read(byte, 0, 1, Math.floor(size / 2));
  await file.write(Buffer.from([byte.readUInt8() ^ 64]), 0, 1, Math.floor(size / 2));
  await file.utimes(at, at);
}

/** A paused sandbox whose files have times that `rot` gives them. */
async function pausedSandbox(testHost: TestHost, manager: SandboxManager, { memory = true } = {}) {
  const { sandboxId } = (await manager.create(testSpec())).result;
  await testHost.memoryOf(sandboxId).write('what it remembers');
  await manager.pause(sandboxId, { memory });
  const folder = testHost.layout.sandboxDir(sandboxId);
  await until('the noting', async () => (await readDiskSums(folder)) !== undefined);
  return { sandboxId, files: machineFiles(folder), pause: machineFiles(testHost.layout.sandboxPauseDir(sandboxId)) };
}

/** Gives a noted file the time that it will have when a bit of it is another. */
async function noteTime({ layout }: TestHost, sandboxId: string, path: string): Promise<void> {
  await utimes(path, 1_600_000_000, 1_600_000_000);
  const sums = join(layout.sandboxDir(sandboxId), 'disk.sums');
  await rm(sums);
}

describe('a round of reading', { concurrency: 3 }, () => {
  test('finds a bit in a disk that is another though no time is, says so, and nothing runs any more', async (t) => {
    const { testHost, manager, lines, host, start } = await hostWith(t);
    const whole = await pausedSandbox(testHost, manager);
    const { sandboxId, files } = await pausedSandbox(testHost, manager);
    const { situation } = await testHost.record(sandboxId);
    assert.ok(situation.state === 'paused');
    // A lower file, whose time no record has.
    await noteTime(testHost, sandboxId, files.rootfs);
    assert.deepEqual(await verify(manager), {});
    await rot(files.rootfs);
    // Its times are what they were, so nothing else sees it. All that have this file have it.
    const found = await verify(manager);
    assert.match(found[sandboxId] ?? '', /rootfs\.ext4 is damaged: its content/);
    assert.match(found[whole.sandboxId] ?? '', /rootfs\.ext4 is damaged: its content/);
    assert.match(found[TEST_TEMPLATE_ID] ?? '', /rootfs\.ext4 is damaged/);
    assert.match(manager.get(sandboxId).damage ?? '', /rootfs/);
    for (const options of [WITH_MEMORY, { memory: false }])
      await assert.rejects(manager.resume(sandboxId, options), withCode('snapshot_damaged', /rootfs/));
    await assert.rejects(manager.create(testSpec()), withCode('snapshot_damaged', /rootfs/));
    const told = lines.filter(({ text, level }) => level === 'error' && text === 'a paused sandbox is damaged');
    assert.equal(told.length, 2);
    await verify(manager);
    assert.equal(lines.filter(({ text }) => text === 'a paused sandbox is damaged').length, 2, 'once');
    const log = await manager.logs(sandboxId, ALL_LINES);
    assert.ok(log.some(({ level, message }) => level === 'error' && message.startsWith('Sandbox is damaged')));
    // Another server knows it from the start.
    await host.stop();
    const next = (await start()).manager;
    assert.match(next.get(sandboxId).damage ?? '', /rootfs/);
    await rot(files.rootfs);
    assert.deepEqual(await verify(next), {});
    await next.resume(sandboxId, WITH_MEMORY);
    assert.equal(await testHost.memoryOf(sandboxId).read(), 'what it remembers');
  });

  for (const name of ['pages', 'devices'] as const)
    test(`finds it in what else a pause consists of: ${name}`, async (t) => {
      const { testHost, manager } = await hostWith(t);
      const { sandboxId, pause } = await pausedSandbox(testHost, manager);
      assert.deepEqual(await verify(manager), {});
      await rot(pause[name]);
      const found = await verify(manager);
      assert.deepEqual(Object.keys(found), [sandboxId]);
      assert.match(found[sandboxId] ?? '', new RegExp(`pause/${name} is damaged`));
      await rot(pause[name]);
      assert.deepEqual(await verify(manager), {});
      assert.equal(manager.get(sandboxId).damage, undefined);
    });

  test('finds it in the memory of a snapshot that was in use already', async (t) => {
    const { testHost, manager } = await hostWith(t, { useSnapshots: true });
    const { sandboxId } = (await manager.create(testSpec())).result;
    await testHost.memoryOf(sandboxId).write('what it remembers');
    testHost.failures.changedPages = 16;
    await manager.snapshot(sandboxId, { templateId: 'snap', names: [] });
    const { snapshot } = await new TemplateStore(testHost.layout).get('snap');
    const files = machineFiles(testHost.layout.templateSnapshotDir('snap', snapshot ?? ''));
    await utimes(files.memory, 1_600_000_000, 1_600_000_000);
    await manager.create(testSpec({ templateId: 'snap' }));
    await using file = await open(files.memory, 'r+');
    await file.write(Buffer.from('W'), 0, 1, 0);
    await file.utimes(1_600_000_000, 1_600_000_000);
    const found = await verify(manager);
    assert.deepEqual(Object.keys(found), ['snap']);
    assert.match(found.snap ?? '', /memory is damaged: its checksum/);
  });

  test('makes way for a resume, and goes on with the others', async (t) => {
    const { testHost, manager } = await hostWith(t);
    const made = [];
    for (let count = 0; count < 4; count++) made.push(await pausedSandbox(testHost, manager));
    manager.verifyDisk();
    await Promise.all(made.slice(0, 2).map(({ sandboxId }) => manager.resume(sandboxId, WITH_MEMORY)));
    await until('the round', async () => !(await manager.diskUsage()).isVerifying);
    await rm(made[3]?.pause.devices ?? '');
    assert.deepEqual(Object.keys(await verify(manager)), [made[3]?.sandboxId]);
  });

  test('comes by itself, and is not due again after a restart', async (t) => {
    const scrub = { intervalMs: 3_600_000, firstAfterMs: 50, noteAfterMs: 3_600_000 };
    const { testHost, manager, host, start } = await hostWith(t, { scrub });
    const { sandboxId, pause } = await pausedSandbox(testHost, manager);
    await rm(testHost.layout.scrubTime, { force: true });
    await host.stop();
    await writeFile(pause.devices, 'other');
    const next = await start();
    await until('a round', async () => (await next.manager.diskUsage()).verifiedAtMs !== undefined);
    assert.match(next.manager.get(sandboxId).damage ?? '', /devices/);
    const at = await readFile(testHost.layout.scrubTime, 'utf8');
    await next.stop();
    const last = await start();
    await last.manager.create(testSpec());
    assert.equal(await readFile(testHost.layout.scrubTime, 'utf8'), at);
  });

  test('is not begun where nobody wants it, and ends with the host agent', async (t) => {
    const { testHost, manager, host } = await hostWith(t, { scrub: { intervalMs: 0, firstAfterMs: 0 } });
    await pausedSandbox(testHost, manager);
    assert.equal((await manager.diskUsage()).verifiedAtMs, undefined);
    manager.verifyDisk();
    await host.stop();
    assert.throws(() => manager.verifyDisk(), withCode('host_unavailable'));
  });
});

test('what rests on a host and is not noted yet is noted after a start: templates, snapshots, paused sandboxes', async (t) => {
  const { testHost, manager, host, start } = await hostWith(t, { scrub: { intervalMs: 0, noteAfterMs: 20 } });
  const { sandboxId } = await pausedSandbox(testHost, manager);
  const other = (await manager.create(testSpec())).result.sandboxId;
  await manager.snapshot(other, { templateId: 'snap', names: [] });
  const { snapshot } = await new TemplateStore(testHost.layout).get('snap');
  const { layout } = testHost;
  const folders = [
    layout.sandboxDir(sandboxId),
    layout.templateDir(TEST_TEMPLATE_ID),
    layout.templateSnapshotDir('snap', snapshot ?? ''),
  ];
  const areNoted = async () =>
    (await Promise.all(folders.map((folder) => readDiskSums(folder)))).every((sums) => sums !== undefined);
  await until('the noting of the new snapshot', areNoted);
  await host.stop();
  for (const folder of folders) await rm(join(folder, 'disk.sums'));
  await start();
  await until('the noting', areNoted);
});
