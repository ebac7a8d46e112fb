import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdir, readdir, rename, stat } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { NestboxError } from '@nestbox/contract';
import { machineFiles } from '../storage/machine-folder.ts';
import { readManifest } from '../storage/snapshot-manifest.ts';
import { gate, until, withCode } from '../testing/sandbox-checks.ts';
import { makeTestHost, TEST_TEMPLATE_ID, type TestHost, testSpec, writeTestTemplate } from '../testing/test-host.ts';
import type { FakeFailures } from '../vmm/fake/fake-options.ts';
import type { SandboxManager } from './sandbox.ts';

const WITH_MEMORY = { memory: true };
const SNAP = { templateId: 'snap', names: ['mine:latest'] };
/** Restores what is asked for, and makes nothing by itself. */
const RESTORING = { useSnapshots: true, prepareAtStart: false };

/** A running sandbox with something in its memory. */
async function source(testHost: TestHost, manager: SandboxManager, memory: string, spec = testSpec()): Promise<string> {
  await manager.create(spec);
  await testHost.memoryOf(spec.sandboxId).write(memory);
  return spec.sandboxId;
}

async function create(manager: SandboxManager, templateId: string): Promise<string> {
  return (await manager.create(testSpec({ templateId }))).result.sandboxId;
}

async function inTransit({ layout }: TestHost): Promise<string[]> {
  return existsSync(layout.transitDir) ? readdir(layout.transitDir) : [];
}

async function snapshotFolders({ layout }: TestHost, templateId = SNAP.templateId): Promise<string[]> {
  return (await readdir(layout.templateDir(templateId))).filter((name) => name.startsWith('snapshot-'));
}

describe('a snapshot', () => {
  test('is a template of which sandboxes are restored, by its id and by its name', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start(RESTORING);
    const { layout } = testHost;
    const sandboxId = await source(testHost, manager, 'what it remembers', testSpec({ accessToken: 'secret' }));
    const { machine: before, vm } = await testHost.running(sandboxId);
    const { result: template, stages } = await manager.snapshot(sandboxId, SNAP);
    for (const name of ['frozen', 'save', 'store'])
      assert.ok(
        stages.some((stage) => stage.name === name),
        name,
      );
    assert.partialDeepStrictEqual(template, {
      ...SNAP,
      vcpuCount: 2,
      memoryMib: 512,
      diskMib: 1024,
      defaultUser: 'user',
      envVars: { FROM_TEMPLATE: 'yes', BOTH: 'template' },
      originSandboxId: sandboxId,
      rootfsPath: layout.templateRootfs('snap'),
    });
    assert.deepEqual((await manager.templates())[0], { ...template, damage: undefined });
    const folder = layout.templateSnapshotDir('snap', template.snapshot ?? '');
    assert.partialDeepStrictEqual(await readManifest(folder), {
      machine: 'fake',
      kernelVersion: '6.1.0-test',
      agentDiskHash: 'abc',
      envdVersion: '0.6.99',
      hasPages: false,
      disk: { layers: before.layers },
    });
    assert.deepEqual(await inTransit(testHost), []);

    // The source goes on.
    const after = await testHost.running(sandboxId);
    assert.deepEqual(after.vm, vm);
    assert.deepEqual(after.machine.layers.slice(1), before.layers);
    await testHost.memoryOf(sandboxId).write('something later');
    for (const name of ['snap', 'mine:latest']) {
      const copy = await create(manager, name);
      assert.equal(manager.get(copy).templateId, 'snap');
      assert.equal(await testHost.memoryOf(copy).read(), 'what it remembers');
      const { machine, slot } = await testHost.running(copy);
      assert.deepEqual(machine.layers.slice(1), before.layers);
      const init = await (await fetch(`http://${slot.hostReachableAddress}:49983/last-init`)).json();
      assert.partialDeepStrictEqual(init, { sandbox_id: copy, template_id: 'snap' });
      assert.equal(Object.hasOwn(Object(init), 'accessToken'), false, 'the token of the source stays its own');
    }
  });

  test('boots from the disk as it was then where memory is not to be restored', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start();
    const sandboxId = await source(testHost, manager, 'what it remembers');
    const { machine: before } = await testHost.running(sandboxId);
    await manager.snapshot(sandboxId, SNAP);
    const copy = await create(manager, 'snap');
    assert.equal(await testHost.memoryOf(copy).read(), '');
    assert.deepEqual((await testHost.running(copy)).machine.layers.slice(1), before.layers);
  });

  test('outlives its source and the host agent', async (t) => {
    const testHost = await makeTestHost(t);
    const host = await testHost.start(RESTORING);
    await host.manager.snapshot(await source(testHost, host.manager, 'what it remembers'), SNAP);
    await host.stop({ destroySandboxes: true });
    const { manager } = await testHost.start(RESTORING);
    assert.equal(await testHost.memoryOf(await create(manager, 'snap')).read(), 'what it remembers');
  });

  test('that takes the place of another leaves sandboxes of that one what they need', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start(RESTORING);
    await manager.snapshot(await source(testHost, manager, 'the first'), SNAP);
    const running = await create(manager, 'snap');
    const paused = await create(manager, 'snap');
    await manager.pause(paused, WITH_MEMORY);
    const { result: second } = await manager.snapshot(await source(testHost, manager, 'the second'), {
      ...SNAP,
      names: ['other'],
    });
    assert.deepEqual(await snapshotFolders(testHost), [second.snapshot]);
    assert.equal(await testHost.memoryOf(await create(manager, 'other')).read(), 'the second');
    await assert.rejects(create(manager, 'mine:latest'), withCode('template_not_found'));
    await manager.pause(running, WITH_MEMORY);
    for (const id of [running, paused]) {
      await manager.resume(id, WITH_MEMORY);
      assert.equal(await testHost.memoryOf(id).read(), 'the first');
    }
  });

  test('that takes the place of one with another root disk boots from its own', async (t) => {
    const testHost = await makeTestHost(t);
    const { layout } = testHost;
    await writeTestTemplate(layout, { templateId: 'other', names: [] });
    const { manager } = await testHost.start();
    await manager.snapshot(await source(testHost, manager, ''), SNAP);
    const sandboxId = await source(testHost, manager, '', testSpec({ templateId: 'other' }));
    await manager.snapshot(sandboxId, SNAP);
    const copy = await create(manager, 'snap');
    const inode = async (path: string) => (await stat(path)).ino;
    const wanted = await inode(layout.templateRootfs('other'));
    assert.equal(await inode(machineFiles(layout.sandboxDir(copy)).rootfs), wanted);
    assert.equal(await inode(layout.templateRootfs('snap')), wanted, 'the other one is kept by nobody');
    assert.ok(!(await readdir(layout.templateDir('snap'))).some((name) => name.endsWith('.new')));
    // A crash in the middle of the next one may leave that one's disk there.
    await rename(layout.templateRootfs(TEST_TEMPLATE_ID), layout.templateRootfs('snap'));
    assert.equal(await inode(machineFiles(layout.sandboxDir(await create(manager, 'snap'))).rootfs), wanted);
  });

  test('that is taken twice at once under one id is one of the two, and whole', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start(RESTORING);
    const sources = [await source(testHost, manager, 'one'), await source(testHost, manager, 'two')];
    for (let round = 0; round < 3; round++) {
      await Promise.all(sources.map((id) => manager.snapshot(id, SNAP)));
      const { snapshot } = await testHost.context().templates.get('snap');
      assert.deepEqual(await snapshotFolders(testHost), [snapshot]);
      const copy = await create(manager, 'snap');
      assert.match(await testHost.memoryOf(copy).read(), /^(one|two)$/);
      await manager.destroy(copy);
    }
  });

  test('under the id of a template that was built is a conflict', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start();
    const sandboxId = await source(testHost, manager, '');
    const before = await testHost.running(sandboxId);
    const built = { templateId: TEST_TEMPLATE_ID, names: [] };
    await assert.rejects(manager.snapshot(sandboxId, built), withCode('conflict', /was built/));
    assert.deepEqual(await testHost.running(sandboxId), before);
  });

  test('of a paused or unknown sandbox is refused', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start();
    const sandboxId = await source(testHost, manager, '');
    await manager.pause(sandboxId, WITH_MEMORY);
    await assert.rejects(manager.snapshot(sandboxId, SNAP), withCode('sandbox_paused'));
    await assert.rejects(manager.snapshot('i00000000000000000000', SNAP), withCode('sandbox_not_found'));
    assert.equal(existsSync(testHost.layout.templateDir('snap')), false);
  });

  test('that cannot be saved leaves no template, and the source goes on', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start();
    const sandboxId = await source(testHost, manager, '');
    const before = await testHost.running(sandboxId);
    testHost.failures.saveError = new NestboxError('host_disk_full', 'there is no room');
    await assert.rejects(manager.snapshot(sandboxId, SNAP), withCode('host_disk_full'));
    assert.deepEqual(await testHost.running(sandboxId), before);
    assert.equal(existsSync(testHost.layout.templateDir('snap')), false);
    assert.deepEqual(await inTransit(testHost), []);
  });

  test('that cannot be stored leaves no template, and the one before as it was', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start(RESTORING);
    const sandboxId = await source(testHost, manager, 'what it remembers');
    // Where its file should go stands a folder.
    await mkdir(testHost.layout.templateFile('hindered'), { recursive: true });
    await assert.rejects(manager.snapshot(sandboxId, { templateId: 'hindered', names: [] }), withCode('internal'));
    assert.deepEqual(await snapshotFolders(testHost, 'hindered'), []);
    assert.deepEqual(await inTransit(testHost), []);
    assert.equal(manager.get(sandboxId).state, 'running');
    await manager.snapshot(sandboxId, SNAP);
    testHost.failures.cutsPages = true;
    await assert.rejects(manager.snapshot(sandboxId, SNAP), withCode('snapshot_damaged'));
    assert.equal((await snapshotFolders(testHost)).length, 1);
    assert.equal(await testHost.memoryOf(await create(manager, 'snap')).read(), 'what it remembers');
  });

  test('that is under way when the host agent stops comes to its end', async (t) => {
    const testHost = await makeTestHost(t);
    const host = await testHost.start(RESTORING);
    const sandboxId = await source(testHost, host.manager, 'what it remembers');
    const save = gate();
    testHost.failures.saveGate = save.promise;
    const snapshotting = host.manager.snapshot(sandboxId, SNAP);
    await until('the snapshot', async () => (await inTransit(testHost)).length === 1);
    const stopping = host.stop();
    save.open();
    await stopping;
    assert.equal((await snapshotting).result.templateId, 'snap');
    assert.deepEqual(await inTransit(testHost), []);
    const { manager } = await testHost.start(RESTORING);
    assert.equal(await testHost.memoryOf(await create(manager, 'snap')).read(), 'what it remembers');
  });
});

describe('deleting a snapshot', () => {
  test('takes nothing from sandboxes that run or are paused on it', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start(RESTORING);
    await manager.snapshot(await source(testHost, manager, 'what it remembers'), SNAP);
    const running = await create(manager, 'snap');
    const paused = await create(manager, 'snap');
    await manager.pause(paused, WITH_MEMORY);
    assert.equal(await manager.deleteTemplate('mine:latest'), true);
    assert.equal(await manager.deleteTemplate('snap'), false);
    assert.equal(existsSync(testHost.layout.templateDir('snap')), false);
    await assert.rejects(create(manager, 'snap'), withCode('template_not_found'));
    await manager.pause(running, WITH_MEMORY);
    for (const id of [running, paused]) {
      await manager.resume(id, WITH_MEMORY);
      assert.equal(await testHost.memoryOf(id).read(), 'what it remembers');
      await manager.pause(id, { memory: false });
      assert.equal((await manager.resume(id, WITH_MEMORY)).result.state, 'running');
    }
  });

  test('does not delete a template that was built', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start();
    for (const name of [TEST_TEMPLATE_ID, 'base'])
      await assert.rejects(manager.deleteTemplate(name), withCode('conflict', /built by set-up/));
    assert.ok(await create(manager, 'base'));
  });

  test('means the same by a word as a create does: an id before a name', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start();
    const sandboxId = await source(testHost, manager, '');
    await manager.snapshot(sandboxId, { templateId: 'meant', names: [] });
    await manager.snapshot(sandboxId, { templateId: 'newer', names: ['meant'] });
    assert.equal(manager.get(await create(manager, 'meant')).templateId, 'meant');
    assert.equal(await manager.deleteTemplate('meant'), true);
    assert.deepEqual(
      (await manager.templates()).map(({ templateId }) => templateId),
      ['newer', TEST_TEMPLATE_ID],
    );
  });
});

/** VMs stand still before they go on; the returned function tells whether one does. */
function holdResumes({ failures }: { readonly failures: FakeFailures }, until: Promise<void>): () => boolean {
  let isHeld = false;
  Object.defineProperty(failures, 'resumeGate', {
    configurable: true,
    get() {
      isHeld = true;
      return until;
    },
  });
  return () => isHeld;
}

describe('a snapshot that is replaced under a create', () => {
  for (const sameSize of [true, false])
    test(`${sameSize ? '' : 'by one of another size '}does not fail it: it begins anew with the one that is there now`, async (t) => {
      const testHost = await makeTestHost(t);
      const { manager } = await testHost.start({ ...RESTORING, limits: { maxConcurrentBoots: 1 } });
      if (!sameSize)
        await writeTestTemplate(testHost.layout, { templateId: 'larger', names: [], memoryMib: 640, createdAtMs: 1 });
      await manager.prepareTemplates();
      const first = (await manager.create(testSpec())).result.sandboxId;
      const second = (await manager.create(testSpec({ templateId: sameSize ? 'base' : 'larger' }))).result.sandboxId;
      await testHost.memoryOf(first).write('the old one');
      await testHost.memoryOf(second).write('the new one');
      await manager.snapshot(first, { templateId: 'snap', names: [] });
      // A create that has its plan, and waits for its turn behind another.
      const turn = gate();
      const isHeld = holdResumes(testHost, turn.promise);
      const ahead = manager.create(testSpec({ templateId: 'snap' }));
      await until('the one ahead', isHeld);
      const waiting = manager.create(testSpec({ templateId: 'snap' }));
      await until('the plan', () => manager.list().length === 4);
      await delay(100);
      const { templates } = testHost.context();
      const before = (await templates.get('snap')).snapshot;
      delete testHost.failures.resumeGate;
      await manager.snapshot(second, { templateId: 'snap', names: [] });
      assert.notEqual((await templates.get('snap')).snapshot, before);
      turn.open();
      assert.equal(await testHost.memoryOf((await ahead).result.sandboxId).read(), 'the old one');
      const { sandboxId, memoryMib } = (await waiting).result;
      assert.equal(await testHost.memoryOf(sandboxId).read(), 'the new one');
      assert.equal(memoryMib, sameSize ? 512 : 640);
      assert.equal((await testHost.record(sandboxId)).memoryMib, memoryMib);
    });

  test('or deleted is template_not_found, and leaves nothing', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start({ ...RESTORING, limits: { maxConcurrentBoots: 1 } });
    await manager.prepareTemplates();
    const first = (await manager.create(testSpec())).result.sandboxId;
    await manager.snapshot(first, { templateId: 'snap', names: [] });
    const turn = gate();
    const isHeld = holdResumes(testHost, turn.promise);
    const ahead = manager.create(testSpec({ templateId: 'snap' }));
    await until('the one ahead', isHeld);
    const waiting = manager.create(testSpec({ templateId: 'snap' }));
    await until('the plan', () => manager.list().length === 3);
    await delay(100);
    await manager.deleteTemplate('snap');
    turn.open();
    await assert.rejects(waiting, withCode('template_not_found'));
    await ahead;
    assert.equal(manager.list().length, 2);
  });
});
