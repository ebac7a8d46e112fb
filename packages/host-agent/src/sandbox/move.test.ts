import assert from 'node:assert/strict';
import { cp, mkdir, rename, rm, truncate } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { runCommand } from '@nestbox/kit';
import type { HostAgentConfig } from '../host-agent.ts';
import { readDiskSums } from '../storage/disk-sums.ts';
import { machineFiles } from '../storage/machine-folder.ts';
import { TemplateStore } from '../storage/template-store.ts';
import { until, withCode } from '../testing/sandbox-checks.ts';
import { makeTestHost, TEST_TEMPLATE_ID, type TestHost, testSpec, writeTestImages } from '../testing/test-host.ts';

const WITH_MEMORY = { memory: true };
const FROM_DISK = { memory: false };
const CONFIG: Partial<HostAgentConfig> = {
  useSnapshots: true,
  prepareAtStart: false,
  scrub: { intervalMs: 0, noteAfterMs: 10 },
};

type Copy = (from: string, to: string) => Promise<unknown>;

/** Tar keeps whole seconds, cp without -a no times at all, rsync without -H and -S neither links nor holes. */
const COPIES = {
  'cp -a': (from, to) => runCommand('cp', ['-a', from, to]),
  'cp -r': (from, to) => runCommand('cp', ['-r', from, to]),
  'cp -r with zeros in the place of holes': (from, to) => runCommand('cp', ['-r', '--sparse=never', from, to]),
  'a copy with times and zeros, without links': (from, to) =>
    runCommand('cp', ['-r', '--preserve=mode,timestamps', '--sparse=never', from, to]),
  tar: (from, to) => runCommand('sh', ['-c', 'mkdir "$2" && tar -C "$1" -cf - . | tar -C "$2" -xf -', 'sh', from, to]),
  'tar with holes and exact times': (from, to) =>
    runCommand('sh', ['-c', 'mkdir "$2" && tar -C "$1" --format=posix -Scf - . | tar -C "$2" -xf -', 'sh', from, to]),
} satisfies Record<string, Copy>;

/** A host with a paused sandbox, one of which the disk alone was kept, one that never had an image but a blank one, and snapshots. */
async function source(t: TestContext) {
  const testHost = await makeTestHost(t);
  const { layout } = testHost;
  const first = await testHost.start(CONFIG);
  const booted = (await first.manager.create(testSpec())).result.sandboxId;
  await testHost.memoryOf(booted).write('of one that booted');
  await first.manager.pause(booted, WITH_MEMORY);
  await first.manager.prepareTemplates();
  const ids: string[] = [];
  for (const memory of [true, false]) {
    const { sandboxId } = (await first.manager.create(testSpec())).result;
    await testHost.memoryOf(sandboxId).write('what it remembers');
    if (memory) await first.manager.snapshot(sandboxId, { templateId: 'snap', names: ['mine'] });
    await first.manager.pause(sandboxId, { memory });
    ids.push(sandboxId);
  }
  const [kept = '', diskOnly = ''] = ids;
  const snapshotOf = async (id: string) => (await new TemplateStore(layout).get(id)).snapshot ?? '';
  const snapshots = [await snapshotOf('snap'), await snapshotOf(TEST_TEMPLATE_ID)];
  const noted = [
    ...[booted, kept, diskOnly].map(layout.sandboxDir),
    layout.templateSnapshotDir('snap', snapshots[0] ?? ''),
    layout.templateSnapshotDir(TEST_TEMPLATE_ID, snapshots[1] ?? ''),
  ];
  await until('the noting', async () =>
    (await Promise.all(noted.map((folder) => readDiskSums(folder)))).every((sums) => sums !== undefined),
  );
  return { testHost, booted, kept, diskOnly };
}

/** Copies folders into another state folder, each beside its place first. */
async function move(from: TestHost, to: TestHost, copy: Copy, folders: readonly string[]): Promise<void> {
  for (const folder of folders) {
    const target = folder.replace(from.paths.stateDir, to.paths.stateDir);
    await mkdir(dirname(target), { recursive: true, mode: 0o700 });
    await rm(target, { recursive: true, force: true });
    const beside = join(to.paths.stateDir, 'arriving');
    await copy(folder, beside);
    await rename(beside, target);
  }
}

function foldersOf({ layout }: TestHost, sandboxIds: readonly string[]): string[] {
  return [...sandboxIds.map(layout.sandboxDir), layout.templateDir('snap'), layout.templateDir(TEST_TEMPLATE_ID)];
}

async function whatItRemembers(host: TestHost, sandboxId: string) {
  return host.memoryOf(sandboxId).read();
}

describe('folders that were copied to another machine of the same kind work there', { concurrency: 2 }, () => {
  for (const [how, copy] of Object.entries(COPIES))
    test(`by ${how}`, async (t) => {
      const { testHost: from, booted, kept, diskOnly } = await source(t);
      const to = await makeTestHost(t);
      await move(from, to, copy, foldersOf(from, [booted, kept, diskOnly]));
      const { manager } = await to.start(CONFIG);
      assert.deepEqual(
        new Map(manager.list().map(({ sandboxId, state, pausedMemory }) => [sandboxId, `${state} ${pausedMemory}`])),
        new Map([
          [booted, 'paused true'],
          [kept, 'paused true'],
          [diskOnly, 'paused false'],
        ]),
      );
      await manager.resume(kept, WITH_MEMORY);
      assert.equal(await whatItRemembers(to, kept), 'what it remembers');
      await manager.resume(booted, WITH_MEMORY);
      assert.equal(await whatItRemembers(to, booted), 'of one that booted');
      await manager.resume(diskOnly, WITH_MEMORY);
      assert.equal(await whatItRemembers(to, diskOnly), '');

      const { result, stages } = await manager.create(testSpec({ templateId: 'mine' }));
      assert.ok(stages.some(({ name }) => name === 'restore'));
      assert.equal(await whatItRemembers(to, result.sandboxId), 'what it remembers');
      const copyId = testSpec().sandboxId;
      await manager.fork(result.sandboxId, [{ sandboxId: copyId, accessToken: undefined }]);
      assert.equal(await whatItRemembers(to, copyId), 'what it remembers');
      const built = await manager.create(testSpec());
      assert.ok(built.stages.some(({ name }) => name === 'restore'));

      // And from there they go on as any other.
      await manager.pause(kept, WITH_MEMORY);
      await manager.resume(kept, WITH_MEMORY);
      assert.equal(await whatItRemembers(to, kept), 'what it remembers');
      manager.verifyDisk();
      await until('the round', async () => !(await manager.diskUsage()).isVerifying);
      const { items } = await manager.diskUsage();
      assert.ok(items.every(({ damage }) => damage === undefined));
      assert.equal((await from.record(kept)).situation.state, 'paused', 'where it came from it is as it was');
    });

  test('a snapshot and a template at once, a paused sandbox at the next start', async (t) => {
    const { testHost: from, kept } = await source(t);
    const to = await makeTestHost(t);
    const host = await to.start(CONFIG);
    await move(from, to, (a, b) => cp(a, b, { recursive: true }), [
      from.layout.templateDir('snap'),
      from.layout.sandboxDir(kept),
    ]);
    const { result } = await host.manager.create(testSpec({ templateId: 'snap' }));
    assert.equal(await whatItRemembers(to, result.sandboxId), 'what it remembers');
    assert.throws(() => host.manager.get(kept), withCode('sandbox_not_found'));
    await host.stop();
    const { manager } = await to.start(CONFIG);
    await manager.resume(kept, WITH_MEMORY);
    assert.equal(await whatItRemembers(to, kept), 'what it remembers');
  });

  test('though the agent disk and the kernel of today are others there', async (t) => {
    const { testHost: from, kept } = await source(t);
    const to = await makeTestHost(t);
    await writeTestImages(to.layout, { agentDiskHash: 'theirs', kernelVersion: '6.9' });
    await rm(to.layout.agentDisk('abc'), { force: true });
    await move(from, to, COPIES['cp -r'], foldersOf(from, [kept]));
    const { manager } = await to.start(CONFIG);
    await manager.resume(kept, WITH_MEMORY);
    assert.equal(await whatItRemembers(to, kept), 'what it remembers');
    const { result } = await manager.create(testSpec({ templateId: 'snap' }));
    assert.equal(await whatItRemembers(to, result.sandboxId), 'what it remembers');
  });
});

describe('on a machine of another kind', { concurrency: 2 }, () => {
  test('a memory is refused, which says both kinds; disks boot', async (t) => {
    const { testHost: from, kept, diskOnly } = await source(t);
    const to = await makeTestHost(t);
    to.failures.machine = 'another processor';
    await move(from, to, COPIES['cp -r'], foldersOf(from, [kept, diskOnly]));
    const { manager } = await to.start(CONFIG);
    const record = await to.record(kept);
    await assert.rejects(
      manager.resume(kept, WITH_MEMORY),
      withCode('snapshot_incompatible', /saved on "fake"; this host is "another processor"/),
    );
    assert.deepEqual(await to.record(kept), record);
    assert.equal(manager.get(kept).damage, undefined, 'it is whole');
    for (const [sandboxId, how] of [
      [kept, FROM_DISK],
      [diskOnly, WITH_MEMORY],
    ] as const) {
      await manager.resume(sandboxId, how);
      assert.equal(await whatItRemembers(to, sandboxId), '');
    }
    const { result, stages } = await manager.create(testSpec({ templateId: 'snap' }));
    assert.ok(stages.some(({ name }) => name === 'kernel'));
    assert.equal(await whatItRemembers(to, result.sandboxId), '');
  });

  test('a folder without its agent disk is refused, and boots with that of the machine', async (t) => {
    const { testHost: from, kept } = await source(t);
    const to = await makeTestHost(t);
    await move(from, to, COPIES['cp -a'], foldersOf(from, [kept]));
    await rm(machineFiles(to.layout.sandboxDir(kept)).agentDisk);
    const { manager } = await to.start(CONFIG);
    await assert.rejects(manager.resume(kept, WITH_MEMORY), withCode('snapshot_damaged', /agent\.ext4 .*missing/));
    assert.match(manager.get(kept).damage ?? '', /agent\.ext4/);
    await manager.resume(kept, FROM_DISK);
    assert.equal(manager.get(kept).damage, undefined);
  });
});

test('what was cut on its way is refused, whatever it is', async (t) => {
  const { testHost: from, kept, diskOnly } = await source(t);
  const to = await makeTestHost(t);
  await move(from, to, COPIES['cp -r'], foldersOf(from, [kept, diskOnly]));
  const host = await to.start(CONFIG);
  for (const [sandboxId, how] of [
    [kept, WITH_MEMORY],
    [diskOnly, WITH_MEMORY],
  ] as const) {
    await truncate(machineFiles(to.layout.sandboxDir(sandboxId)).rootfs, 1000);
    await assert.rejects(
      host.manager.resume(sandboxId, how),
      withCode('snapshot_damaged', /rootfs\.ext4 .*1000 bytes/),
    );
  }
  const { snapshot = '' } = await new TemplateStore(to.layout).get('snap');
  const folder = to.layout.templateSnapshotDir('snap', snapshot);
  await truncate(machineFiles(folder).rootfs, 1000);
  await assert.rejects(
    host.manager.create(testSpec({ templateId: 'snap' })),
    withCode('snapshot_damaged', /rootfs\.ext4 .*1000 bytes/),
  );
});

test('of a sandbox that ran when its folder was copied nothing is kept, and the one that runs goes on', async (t) => {
  const from = await makeTestHost(t);
  const { manager } = await from.start(CONFIG);
  const { sandboxId } = (await manager.create(testSpec())).result;
  const to = await makeTestHost(t);
  await move(from, to, COPIES['cp -a'], [from.layout.sandboxDir(sandboxId)]);
  const there = await to.start(CONFIG);
  assert.deepEqual(there.manager.list(), []);
  assert.deepEqual(await to.leftovers(), []);
  await manager.pause(sandboxId, WITH_MEMORY);
  await manager.resume(sandboxId, WITH_MEMORY);
  assert.equal(manager.get(sandboxId).state, 'running');
});
