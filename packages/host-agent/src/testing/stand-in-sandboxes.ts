import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, open, readdir, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { describe, type TestContext, test } from 'node:test';
import { runCommand } from '@nestbox/kit';
import { z } from 'zod';
import type { SandboxManager } from '../sandbox/sandbox.ts';
import { machineFiles } from '../storage/machine-folder.ts';
import { isRawDiskFile } from '../storage/raw-disks.ts';
import { TemplateStore } from '../storage/template-store.ts';
import { DISK_COUNT_OFFSET } from '../vmm/testing/stand-in/guest-disk.ts';
import type { StandInPlan } from '../vmm/testing/stand-in/plan.ts';
import { whyNoDescription } from '../vmm/testing/stand-in-bench.ts';
import { until, withCode } from './sandbox-checks.ts';
import { makeStandInHost, type StandInHost } from './stand-in-host.ts';
import { TEST_TEMPLATE_ID, testSpec } from './test-host.ts';

const DOOMED_HOST = join(import.meta.dirname, 'doomed-stand-in-host.ts');
const WITH_MEMORY = { memory: true };
const NO_SNAPSHOTS = { useSnapshots: false } as const;
const SNAPSHOTS = { useSnapshots: true, prepareAtStart: false } as const;

/** How often the guest of this disk went on: a boot is once. */
async function countOf(path: string): Promise<number> {
  await using file = await open(path, 'r');
  return (await file.read(Buffer.alloc(4), 0, 4, DISK_COUNT_OFFSET)).buffer.readUInt32LE();
}

async function diskOf(host: StandInHost, sandboxId: string): Promise<string> {
  const { situation } = await host.record(sandboxId);
  assert.ok('machine' in situation);
  const [name = '', ...more] = situation.machine.layers;
  assert.deepEqual(more, []);
  const there = (await host.files(sandboxId)).filter(isRawDiskFile);
  assert.deepEqual(there, [name], 'no other disk is in the folder');
  return join(host.layout.sandboxDir(sandboxId), name);
}

/** What a guest had in its memory after the last call of this kind that succeeded. */
function memoryAfter(host: StandInHost, call: string): number | undefined {
  return host
    .journal()
    .filter(({ method, path, status }) => `${method} ${path}` === call && status < 300)
    .at(-1)?.memory;
}

function requireNoViolation(host: StandInHost): void {
  assert.deepEqual(
    host.journal().filter(({ violation }) => violation === true),
    [],
  );
}

async function createOne(manager: SandboxManager, templateId = 'base') {
  const { result, stages } = await manager.create(testSpec({ templateId, accessToken: 'secret' }));
  const how = stages.some(({ name }) => name === 'restore') ? 'restored' : 'booted';
  return { sandboxId: result.sandboxId, how };
}

type Vmm = StandInPlan['vmm'];

/** The calls by which a driver saves, loads and sets going. */
const CALLS = {
  firecracker: {
    save: 'PUT /snapshot/create',
    load: 'PUT /snapshot/load',
    freeze: 'PATCH /vm',
    resume: 'PATCH /vm',
  },
  'cloud-hypervisor': {
    save: 'PUT /api/v1/vm.snapshot',
    load: 'PUT /api/v1/vm.restore',
    freeze: 'PUT /api/v1/vm.pause',
    resume: 'PUT /api/v1/vm.resume',
  },
} as const satisfies Record<Vmm, object>;

/** What sandboxes on a VM manager with raw disks alone must do, through the whole host agent, with a stand-in for its program. */
export function describeStandInSandboxes(vmm: Vmm): void {
  const calls = CALLS[vmm];
  describe(`sandboxes on ${vmm} (a stand-in)`, { skip: whyNoDescription(vmm) ?? false }, () => {
    test('boot on raw disks of their own, answer, and leave nothing', async (t) => {
      const host = await makeStandInHost(t, vmm);
      const { manager } = await host.start(NO_SNAPSHOTS);
      const first = await createOne(manager);
      const second = await createOne(manager);
      assert.equal(first.how, 'booted');
      assert.equal((await manager.metrics(first.sandboxId)).cpuCount, 2);
      for (const { sandboxId } of [first, second]) {
        assert.equal(await countOf(await diskOf(host, sandboxId)), 1);
        assert.ok(!(await host.files(sandboxId)).includes('rootfs.ext4'));
      }
      assert.equal(await countOf(host.layout.templateRootfs(TEST_TEMPLATE_ID)), 0, 'the template’s is as it was');
      for (const { sandboxId } of [first, second]) await manager.destroy(sandboxId);
      assert.deepEqual(await host.leftovers(), []);
      requireNoViolation(host);
    });

    test('are restores of their template’s snapshot, which leaves the template’s own disk as it was built', async (t) => {
      const host = await makeStandInHost(t, vmm);
      const { manager } = await host.start(SNAPSHOTS);
      await manager.prepareTemplates();
      const saved = memoryAfter(host, calls.save);
      const { snapshot } = await new TemplateStore(host.layout).get(TEST_TEMPLATE_ID);
      assert.ok(snapshot !== undefined);
      const names = await readdir(host.layout.templateSnapshotDir(TEST_TEMPLATE_ID, snapshot));
      assert.deepEqual(names.map((name) => name.replace(/^disk-\w+/, 'disk')).sort(), [
        'agent.ext4',
        'devices',
        'disk.raw',
        'memory',
        'memory.map',
        'snapshot.json',
      ]);
      assert.equal(await countOf(host.layout.templateRootfs(TEST_TEMPLATE_ID)), 0);
      for (let round = 0; round < 2; round++) {
        const { sandboxId, how } = await createOne(manager);
        assert.equal(how, 'restored');
        assert.equal(memoryAfter(host, calls.load), saved);
        assert.equal(await countOf(await diskOf(host, sandboxId)), 2);
        await manager.destroy(sandboxId);
      }
      assert.deepEqual(await host.leftovers(), []);
      requireNoViolation(host);
    });

    test('pause and go on with memory and disk, again and again, and a pause copies no disk', async (t) => {
      const host = await makeStandInHost(t, vmm);
      const { manager } = await host.start(NO_SNAPSHOTS);
      const { sandboxId } = await createOne(manager);
      for (let lives = 1; lives <= 3; lives++) {
        const disk = await diskOf(host, sandboxId);
        await manager.pause(sandboxId, WITH_MEMORY);
        const saved = memoryAfter(host, calls.save);
        await until('the VM to go', async () => (await host.leftovers()).length === 1);
        assert.equal(await diskOf(host, sandboxId), disk);
        assert.equal(await countOf(disk), lives);
        await manager.resume(sandboxId, WITH_MEMORY);
        assert.equal(memoryAfter(host, calls.load), saved);
        await until('the old disk to go', () => !existsSync(disk));
        assert.equal(await countOf(await diskOf(host, sandboxId)), lives + 1);
      }
      await manager.pause(sandboxId, { memory: false });
      await manager.resume(sandboxId, WITH_MEMORY);
      await until('the old disk to go', async () => (await host.files(sandboxId)).filter(isRawDiskFile).length === 1);
      assert.equal(await countOf(await diskOf(host, sandboxId)), 5, 'a boot from the disk');
      await manager.destroy(sandboxId);
      assert.deepEqual(await host.leftovers(), []);
      requireNoViolation(host);
    });

    test('fork, and each copy has memory and disk of that moment', async (t) => {
      const host = await makeStandInHost(t, vmm);
      const { manager } = await host.start(NO_SNAPSHOTS);
      const { sandboxId } = await createOne(manager);
      const disk = await diskOf(host, sandboxId);
      const copies = [testSpec().sandboxId, testSpec().sandboxId].map((id) => ({
        sandboxId: id,
        accessToken: undefined,
      }));
      const { result } = await manager.fork(sandboxId, copies);
      assert.deepEqual(
        result.map((outcome) => 'sandbox' in outcome && outcome.sandbox.state),
        ['running', 'running'],
      );
      assert.equal(await diskOf(host, sandboxId), disk, 'the source keeps its disk');
      assert.equal(await countOf(disk), 2, 'it went on once');
      const saved = memoryAfter(host, calls.save);
      const loads = host.journal().filter(({ method, path }) => `${method} ${path}` === calls.load);
      assert.deepEqual(
        loads.map(({ memory }) => memory),
        [saved, saved],
      );
      for (const copy of copies) assert.equal(await countOf(await diskOf(host, copy.sandboxId)), 2);
      for (const id of [sandboxId, ...copies.map((copy) => copy.sandboxId)]) {
        assert.equal((await manager.metrics(id)).cpuCount, 2);
        await manager.destroy(id);
      }
      assert.deepEqual(await host.leftovers(), []);
      requireNoViolation(host);
    });

    test('become named snapshots, of which others are made when they are gone', async (t) => {
      const host = await makeStandInHost(t, vmm);
      const { manager } = await host.start(SNAPSHOTS);
      await manager.prepareTemplates();
      const { sandboxId } = await createOne(manager);
      await manager.snapshot(sandboxId, { templateId: 'snap', names: ['mine'] });
      const saved = memoryAfter(host, calls.save);
      await manager.destroy(sandboxId);
      const copy = await createOne(manager, 'mine');
      assert.equal(copy.how, 'restored');
      assert.equal(memoryAfter(host, calls.load), saved);
      assert.equal(await countOf(await diskOf(host, copy.sandboxId)), 3);
      assert.equal(
        await countOf(host.layout.templateRootfs('snap')),
        2,
        'what it boots from when its memory is of no use',
      );
      assert.equal(await manager.deleteTemplate('mine'), true);
      await manager.pause(copy.sandboxId, WITH_MEMORY);
      await manager.resume(copy.sandboxId, WITH_MEMORY);
      await manager.destroy(copy.sandboxId);
      assert.deepEqual(await host.leftovers(), []);
      requireNoViolation(host);
    });

    for (const [what, call, how] of [
      ['it refuses to save', calls.save, 'fault'],
      ['it does not freeze', calls.freeze, 'fault'],
    ] as const)
      test(`run on when they cannot be paused or copied, since ${what}`, async (t) => {
        const host = await makeStandInHost(t, vmm);
        const { manager } = await host.start(NO_SNAPSHOTS);
        const { sandboxId } = await createOne(manager);
        const disk = await diskOf(host, sandboxId);
        host.goWrong([{ call, how }]);
        await assert.rejects(manager.snapshot(sandboxId, { templateId: 'snap', names: [] }), withCode('internal'));
        if (manager.list().length === 1) {
          await assert.rejects(manager.pause(sandboxId, WITH_MEMORY), withCode('internal'));
          assert.equal(manager.get(sandboxId).state, 'running');
        }
        host.goWrong([]);
        assert.equal(await diskOf(host, sandboxId), disk);
        await manager.pause(sandboxId, WITH_MEMORY);
        await manager.resume(sandboxId, WITH_MEMORY);
        await manager.destroy(sandboxId);
        assert.deepEqual(await host.leftovers(), []);
      });

    test('stay paused, with the disk that they had, when they cannot be resumed', async (t) => {
      const host = await makeStandInHost(t, vmm);
      const { manager } = await host.start(NO_SNAPSHOTS);
      const { sandboxId } = await createOne(manager);
      await manager.pause(sandboxId, WITH_MEMORY);
      const disk = await diskOf(host, sandboxId);
      for (const failure of [
        { call: calls.load, how: 'fault' },
        { call: calls.load, how: 'die' },
        { call: calls.resume, how: 'die-after' },
      ] as const) {
        host.goWrong([failure]);
        await assert.rejects(manager.resume(sandboxId, WITH_MEMORY));
        assert.equal(manager.get(sandboxId).state, 'paused');
        assert.equal(await diskOf(host, sandboxId), disk);
        assert.equal(await countOf(disk), 1, 'nothing was written to it');
        assert.deepEqual(await host.leftovers(), [`sandbox folder ${sandboxId}`]);
      }
      host.goWrong([]);
      await manager.resume(sandboxId, WITH_MEMORY);
      await manager.destroy(sandboxId);
      assert.deepEqual(await host.leftovers(), []);
    });

    test('of a damaged state are refused and not run, and boot from their disk', async (t) => {
      const host = await makeStandInHost(t, vmm);
      const { manager } = await host.start(NO_SNAPSHOTS);
      const { sandboxId } = await createOne(manager);
      await manager.pause(sandboxId, WITH_MEMORY);
      const pauseDir = host.layout.sandboxPauseDir(sandboxId);
      await truncate(machineFiles(pauseDir).pages, 5000);
      await assert.rejects(manager.resume(sandboxId, WITH_MEMORY), withCode('snapshot_damaged'));
      assert.deepEqual(await host.leftovers(), [`sandbox folder ${sandboxId}`]);
      await manager.resume(sandboxId, { memory: false });
      await until('the old disk to go', async () => (await host.files(sandboxId)).filter(isRawDiskFile).length === 1);
      assert.equal(await countOf(await diskOf(host, sandboxId)), 2);
      await manager.pause(sandboxId, WITH_MEMORY);
      await truncate(await diskOf(host, sandboxId), 2 ** 20);
      await assert.rejects(manager.resume(sandboxId, WITH_MEMORY), withCode('snapshot_damaged', /same moment/));
      await manager.destroy(sandboxId);
      assert.deepEqual(await host.leftovers(), []);
    });

    test('are as they were when the host’s disk is full, and a pause needs no room for the disk', async (t) => {
      const { host, fill, empty } = await hostWithLittleRoom(t, vmm);
      const { manager } = await host.start(NO_SNAPSHOTS);
      const { sandboxId } = await createOne(manager);
      const disk = await diskOf(host, sandboxId);
      await fill();
      await assert.rejects(createOne(manager), withCode('host_disk_full'));
      await assert.rejects(manager.snapshot(sandboxId, { templateId: 'snap', names: [] }), withCode('host_disk_full'));
      assert.equal(manager.get(sandboxId).state, 'running');
      assert.equal((await manager.metrics(sandboxId)).cpuCount, 2);
      await manager.pause(sandboxId, WITH_MEMORY);
      await assert.rejects(manager.resume(sandboxId, WITH_MEMORY), withCode('host_disk_full'));
      assert.equal(manager.get(sandboxId).state, 'paused');
      assert.equal(await diskOf(host, sandboxId), disk);
      assert.deepEqual(await host.leftovers(), [`sandbox folder ${sandboxId}`]);
      await empty();
      await manager.resume(sandboxId, WITH_MEMORY);
      await manager.destroy(sandboxId);
      assert.deepEqual(await host.leftovers(), []);
    });

    for (const moment of [
      'one runs',
      'a pause is saving',
      'a pause is recorded',
      'a resume waits',
      'a fork is copying',
    ] as const)
      test(`are found again after the host agent was killed when ${moment}`, async (t) => {
        const { host, sandboxId, was } = await afterCrash(t, vmm, moment);
        const { manager } = await host.start(NO_SNAPSHOTS);
        assert.equal(manager.get(sandboxId).state, was);
        const disk = await diskOf(host, sandboxId);
        const before = await countOf(disk);
        if (was === 'paused') await manager.resume(sandboxId, WITH_MEMORY);
        await until('the guest', async () => (await manager.metrics(sandboxId).catch(() => undefined)) !== undefined);
        await manager.pause(sandboxId, WITH_MEMORY);
        await until('the VM to go', async () => (await host.leftovers()).length === 1);
        assert.ok((await countOf(await diskOf(host, sandboxId))) >= before);
        const { situation } = await host.record(sandboxId);
        assert.ok(situation.state === 'paused');
        assert.deepEqual(
          new Set(await host.files(sandboxId)),
          new Set([
            'agent.ext4',
            'console.log',
            ...situation.machine.layers,
            'memory',
            'pause/devices',
            'pause/pages',
            'pause/snapshot.json',
            'sandbox.json',
          ]),
        );
        await manager.resume(sandboxId, WITH_MEMORY);
        await manager.destroy(sandboxId);
        assert.deepEqual(await host.leftovers(), []);
        requireNoViolation(host);
      });

    test('of which the VM died with the host agent leave nothing in a folder that stays', async (t) => {
      const { host, sandboxId } = await afterCrash(t, vmm, 'a pause is recorded', { withVms: true });
      const { manager } = await host.start(NO_SNAPSHOTS);
      assert.equal(manager.get(sandboxId).state, 'paused');
      assert.ok((await host.files(sandboxId)).every((name) => !name.startsWith(sandboxId)));
      await manager.destroy(sandboxId);
      assert.deepEqual(await host.leftovers(), []);
    });
  });
}

/** A host on a file system of its own, with little more room than a disk needs to be made. */
async function hostWithLittleRoom(t: TestContext, vmm: Vmm) {
  const place = await mkdtemp(join(tmpdir(), 'nestbox-full-'));
  const [image, folder] = [join(place, 'image'), join(place, 'mnt')] as const;
  await mkdir(folder);
  await writeFile(image, '');
  await truncate(image, 720 * 2 ** 20);
  await runCommand('mkfs.ext4', ['-q', '-b', '4096', '-m', '0', image]);
  await runCommand('mount', ['-o', 'loop', image, folder]);
  const { TMPDIR } = process.env;
  process.env.TMPDIR = folder;
  const host = await makeStandInHost(t, vmm);
  if (TMPDIR === undefined) delete process.env.TMPDIR;
  else process.env.TMPDIR = TMPDIR;
  // Hooks run in the order in which they came: the host is gone by then.
  t.after(async () => {
    await runCommand('umount', [folder]);
    await rm(place, { recursive: true });
  });
  const blob = join(folder, 'blob');
  return { host, fill: () => runCommand('fallocate', ['-l', '200m', blob]), empty: () => rm(blob) };
}

const said = z.object({ sandboxId: z.string(), pid: z.number(), was: z.enum(['running', 'paused']) });

/** Kills a host agent at this moment. */
async function afterCrash(t: TestContext, vmm: Vmm, moment: string, { withVms } = { withVms: false }) {
  const host = await makeStandInHost(t, vmm);
  const { stateDir, runDir, instance } = host.paths;
  const doomed = spawn(process.execPath, [DOOMED_HOST, stateDir, runDir, instance, vmm, moment], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => doomed.kill('SIGKILL'));
  const [line] = await once(createInterface({ input: doomed.stdout }), 'line');
  const { sandboxId, pid, was } = said.parse(JSON.parse(String(line)));
  const exited = once(doomed, 'exit');
  doomed.kill('SIGKILL');
  await exited;
  if (withVms) {
    process.kill(pid, 'SIGKILL');
    await until('its end', () => !existsSync(`/proc/${pid}`));
  }
  return { host, sandboxId, was };
}
