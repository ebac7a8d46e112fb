import assert from 'node:assert/strict';
import { existsSync, mkdtempSync } from 'node:fs';
import { copyFile, readdir, readFile, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, type TestContext, test } from 'node:test';
import { NestboxError } from '@nestbox/contract';
import { runCommand } from '@nestbox/kit';
import type { HostAgentConfig } from '../host-agent.ts';
import type { HostLayout } from '../storage/layout.ts';
import { machineFiles } from '../storage/machine-folder.ts';
import { TemplateStore } from '../storage/template-store.ts';
import { gate, until, withCode } from '../testing/sandbox-checks.ts';
import {
  makeTestHost,
  recordingLogger,
  TEST_TEMPLATE_ID,
  type TestHost,
  testSpec,
  writeTestImages,
  writeTestTemplate,
} from '../testing/test-host.ts';
import { findProcesses } from '../vmm/processes.ts';
import type { SandboxManager } from './sandbox.ts';

const CANNOT_BE_USED = 'the snapshot of this template cannot be used; sandboxes boot';

/** Creates a sandbox and says how it came about. */
async function create(manager: SandboxManager, templateId = 'base') {
  const { result, stages } = await manager.create(testSpec({ templateId }));
  const names = stages.map(({ name }) => name);
  return { sandboxId: result.sandboxId, how: names.includes('restore') ? 'restored' : 'booted' };
}

async function snapshotOf({ layout }: TestHost, templateId = TEST_TEMPLATE_ID): Promise<string | undefined> {
  return (await new TemplateStore(layout).get(templateId)).snapshot;
}

function filesOf(layout: HostLayout, templateId: string, snapshot: string | undefined) {
  assert.ok(snapshot !== undefined);
  return machineFiles(layout.templateSnapshotDir(templateId, snapshot));
}

describe('the snapshot of a template', { concurrency: 3 }, () => {
  test('is made when the host agent starts; a create waits for it, and later ones need not', async (t) => {
    const testHost = await makeTestHost(t);
    const { logger, lines } = recordingLogger();
    const { manager } = await testHost.start({ useSnapshots: true, logger });
    await until('the making', () => testHost.networks.inUse.size === 1);
    const first = await create(manager);
    assert.equal(first.how, 'restored');
    const snapshot = await snapshotOf(testHost);
    const second = await create(manager);
    assert.equal(second.how, 'restored');
    assert.equal(await snapshotOf(testHost), snapshot);
    assert.deepEqual(
      manager.list().map(({ sandboxId }) => sandboxId),
      [first.sandboxId, second.sandboxId],
    );
    assert.ok(lines.some(({ text }) => text === 'a template has a snapshot; creates restore it'));
    // What made it is gone, with everything that it held.
    for (const { sandboxId } of [first, second]) await manager.destroy(sandboxId);
    assert.deepEqual(await testHost.leftovers(), []);
    const names = await readdir(testHost.layout.templateDir(TEST_TEMPLATE_ID));
    assert.deepEqual(new Set(names), new Set(['rootfs.ext4', 'template.json', snapshot]));
  });

  test('is waited for by a create that comes before its making has begun, and the create says so', async (t) => {
    const testHost = await makeTestHost(t);
    const { logger, lines } = recordingLogger();
    const { manager } = await testHost.start({ useSnapshots: true, logger });
    assert.equal(testHost.networks.inUse.size, 0, 'nothing has begun');
    const spec = testSpec();
    const { stages } = await manager.create(spec);
    const names = stages.map(({ name }) => name);
    assert.ok(names.includes('wait for snapshot') && names.includes('restore') && !names.includes('kernel'));
    assert.ok(lines.some(({ text }) => text.startsWith('a create waits for the snapshot of its template')));
    const { stages: later } = await manager.create(testSpec());
    assert.ok(!later.some(({ name }) => name === 'wait for snapshot'));
  });

  test('is not waited for while one of another template is made: a boot is quicker', async (t) => {
    const testHost = await makeTestHost(t);
    await writeTestTemplate(testHost.layout, { templateId: 'older', names: [], createdAtMs: 1 });
    const { manager } = await testHost.start({ useSnapshots: true, prepareAtStart: false });
    const save = gate();
    testHost.failures.saveGate = save.promise;
    const preparing = manager.prepareTemplates();
    await until('the copy', () => existsSync(testHost.layout.transitDir));
    assert.equal((await create(manager, 'older')).how, 'booted');
    save.open();
    await preparing;
    assert.equal((await create(manager, 'older')).how, 'restored');
  });

  test('is not waited for longer than a client waits: then the create boots', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start({ useSnapshots: true, prepareAtStart: false, snapshotWaitMs: 50 });
    const save = gate();
    testHost.failures.saveGate = save.promise;
    const preparing = manager.prepareTemplates();
    await until('the copy', () => existsSync(testHost.layout.transitDir));
    assert.equal((await create(manager)).how, 'booted');
    save.open();
    await preparing;
    assert.equal((await create(manager)).how, 'restored');
  });

  test('that is there is used at once while it is looked what is missing', async (t) => {
    const testHost = await makeTestHost(t);
    await restoreFixture(t, testHost);
    await writeTestTemplate(testHost.layout, { templateId: 'newer', names: [], createdAtMs: Date.now() });
    const { manager } = await testHost.start({ useSnapshots: true });
    const { stages } = await manager.create(testSpec());
    assert.ok(!stages.some(({ name }) => name === 'wait for snapshot'));
    assert.ok(stages.some(({ name }) => name === 'restore'));
  });

  test('that is being made does not hold a create that is given up', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start({ useSnapshots: true, prepareAtStart: false });
    const save = gate();
    testHost.failures.saveGate = save.promise;
    const preparing = manager.prepareTemplates();
    await until('the copy', () => existsSync(testHost.layout.transitDir));
    const spec = testSpec();
    const creating = assert.rejects(manager.create(spec), withCode('sandbox_stopping'));
    await until('the create', () => manager.list().length === 1);
    assert.equal(await manager.destroy(spec.sandboxId), true);
    await creating;
    save.open();
    await preparing;
    assert.deepEqual(await testHost.leftovers(), []);
  });

  test('is of a guest that has served what a first user asks', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start({ useSnapshots: true, prepareAtStart: false });
    const save = gate();
    testHost.failures.saveGate = save.promise;
    const preparing = manager.prepareTemplates();
    await until('the copy', () => existsSync(testHost.layout.transitDir));
    const [sandboxId = ''] = await readdir(testHost.layout.sandboxesDir);
    const console_ = await readFile(testHost.layout.sandboxConsole(sandboxId), 'utf8');
    assert.ok((console_.match(/^agent: runs \/bin\/bash -l -c echo warm$/gm) ?? []).length >= 10);
    assert.ok((console_.match(/^agent: runs \/bin\/bash -i -l$/gm) ?? []).length >= 10);
    const { situation } = await testHost.record(sandboxId);
    assert.equal(situation.state, 'starting', 'whoever finds it after a crash removes it');
    assert.deepEqual(manager.list(), [], 'it is nobody’s sandbox');
    save.open();
    await preparing;
    assert.deepEqual(await testHost.leftovers(), []);
  });

  test('is neither used nor made when the host is not to use snapshots, or its driver has none', async (t) => {
    const testHost = await makeTestHost(t);
    await restoreFixture(t, testHost);
    const host = await testHost.start({ useSnapshots: false });
    assert.equal((await create(host.manager)).how, 'booted');
    await host.manager.prepareTemplates(() => assert.fail('nothing is to be made'));
    await host.stop({ destroySandboxes: true });
    testHost.features.snapshot = false;
    const { manager } = await testHost.start({ useSnapshots: true });
    assert.equal((await create(manager)).how, 'booted');
    await manager.prepareTemplates(() => assert.fail('nothing is to be made'));
  });

  test('that is there is used after a restart, and not made again', async (t) => {
    const testHost = await makeTestHost(t);
    await restoreFixture(t, testHost);
    const { manager } = await testHost.start({ useSnapshots: true });
    await manager.prepareTemplates(() => assert.fail('nothing is missing'));
    assert.equal((await create(manager)).how, 'restored');
  });

  test('is made once for all who ask for it at once', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start({ useSnapshots: true, prepareAtStart: false });
    const asked: string[] = [];
    const note = ({ templateId }: { templateId: string }) => asked.push(templateId);
    await Promise.all([manager.prepareTemplates(note), manager.prepareTemplates(note)]);
    assert.deepEqual(asked, [TEST_TEMPLATE_ID, TEST_TEMPLATE_ID]);
    const names = await readdir(testHost.layout.templateDir(TEST_TEMPLATE_ID));
    assert.equal(names.filter((name) => name.startsWith('snapshot-')).length, 1);
  });

  test('that cannot be made does not keep others from theirs, and is told', async (t) => {
    const testHost = await makeTestHost(t);
    // No file can be so large, so it cannot boot.
    await writeTestTemplate(testHost.layout, {
      templateId: 'hopeless',
      names: [],
      memoryMib: 2 ** 40,
      createdAtMs: Date.now(),
    });
    const { manager } = await testHost.start({ useSnapshots: true, prepareAtStart: false });
    const asked: string[] = [];
    await assert.rejects(
      manager.prepareTemplates(({ templateId }) => asked.push(templateId)),
      NestboxError,
    );
    assert.deepEqual(asked, ['hopeless', TEST_TEMPLATE_ID]);
    assert.equal((await create(manager)).how, 'restored');
    assert.equal(await snapshotOf(testHost, 'hopeless'), undefined);
  });

  test('that cannot be made does not hold up creates again and again', async (t) => {
    const testHost = await makeTestHost(t);
    const { logger, lines } = recordingLogger();
    const { manager } = await testHost.start({ useSnapshots: true, prepareAtStart: false, logger });
    testHost.failures.saveError = new NestboxError('host_disk_full', 'there is no room');
    for (let count = 0; count < 3; count++) assert.equal((await create(manager)).how, 'booted');
    const told = lines.filter(({ text }) => text.startsWith('no snapshot of this template could be made'));
    assert.equal(told.length, 1);
    assert.deepEqual(await inTransit(testHost), []);
    // Whoever asks for it gets it all the same.
    delete testHost.failures.saveError;
    await manager.prepareTemplates();
    assert.equal((await create(manager)).how, 'restored');
  });

  test('is dropped when the template was replaced while it was made', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start({ useSnapshots: true, prepareAtStart: false });
    const save = gate();
    testHost.failures.saveGate = save.promise;
    const preparing = assert.rejects(manager.prepareTemplates(), withCode('conflict', /was replaced/));
    await until('the copy', () => existsSync(testHost.layout.transitDir));
    await writeTestTemplate(testHost.layout, { createdAtMs: 1_800_000_000_000 });
    save.open();
    await preparing;
    assert.equal(await snapshotOf(testHost), undefined);
    assert.deepEqual(await testHost.leftovers(), []);
  });

  test('that is being made when the host agent stops leaves nothing', async (t) => {
    const testHost = await makeTestHost(t);
    const host = await testHost.start({ useSnapshots: true });
    const mark = `=${testHost.paths.runDir}/`;
    await until('a VM', async () => {
      const found = await findProcesses('environ', (words) => words.some((word) => word.includes(mark)));
      return found.length > 0;
    });
    await host.stop();
    assert.deepEqual(await testHost.leftovers(), []);
    assert.equal(await snapshotOf(testHost), undefined);
  });
});

async function inTransit({ layout }: TestHost): Promise<string[]> {
  return existsSync(layout.transitDir) ? readdir(layout.transitDir) : [];
}

/** Templates of a host that has a snapshot of `base`, and one that a user has taken, `snap`: made once for all tests. */
let fixture: Promise<string> | undefined;
const fixtureRoot = mkdtempSync(join(tmpdir(), 'nestbox-templates-'));
after(() => rm(fixtureRoot, { recursive: true, force: true }));

async function makeFixture(t: TestContext): Promise<string> {
  const templatesDir = join(fixtureRoot, 'templates');
  const testHost = await makeTestHost(t);
  const { manager } = await testHost.start({ useSnapshots: true, prepareAtStart: false });
  await manager.prepareTemplates();
  const { sandboxId } = await create(manager);
  await testHost.memoryOf(sandboxId).write('what it remembers');
  await manager.snapshot(sandboxId, { templateId: 'snap', names: [] });
  await copyTemplates(testHost.layout.templatesDir, templatesDir);
  return templatesDir;
}

/** With times and links, by which a disk is told. */
async function copyTemplates(from: string, to: string): Promise<void> {
  await runCommand('cp', ['-a', from, to]);
}

async function restoreFixture(t: TestContext, { layout }: TestHost): Promise<void> {
  fixture ??= makeFixture(t);
  await rm(layout.templatesDir, { recursive: true });
  await copyTemplates(await fixture, layout.templatesDir);
}

/** A host with the snapshots of the fixture, which makes none at its start. */
async function hostWithSnapshots(t: TestContext, prepare: (testHost: TestHost) => Promise<void> | void) {
  const testHost = await makeTestHost(t);
  await restoreFixture(t, testHost);
  await prepare(testHost);
  const { logger, lines } = recordingLogger();
  const config: Partial<HostAgentConfig> = { useSnapshots: true, prepareAtStart: false, logger };
  const { manager } = await testHost.start(config);
  const reasons = (templateId: string) =>
    lines
      .filter(({ text, fields }) => text === CANNOT_BE_USED && Object(fields).templateId === templateId)
      .map(({ fields }) => String(Object(fields).reason));
  const damages = (templateId: string) =>
    lines.filter(
      ({ text, fields }) => text === 'a template or snapshot is damaged' && Object(fields).templateId === templateId,
    );
  return { testHost, manager, reasons, damages };
}

type Change = (testHost: TestHost, templateId: string) => Promise<void> | void;

const ofFiles =
  (change: (files: ReturnType<typeof machineFiles>) => Promise<void>): Change =>
  async (testHost, templateId) =>
    change(filesOf(testHost.layout, templateId, await snapshotOf(testHost, templateId)));

const ANOTHER_MACHINE: [string, Change, RegExp] = [
  'is of another machine',
  ({ failures }) => {
    failures.machine = 'another processor';
  },
  /saved on "fake"; this host is "another processor"/,
];
const DAMAGES: readonly [string, Change, RegExp][] = [
  ['has other devices', ofFiles(({ devices }) => writeFile(devices, 'devices of another\n')), /devices .*checksum/],
  ['has lost its devices', ofFiles(({ devices }) => rm(devices)), /devices .*damaged/],
  ['has another memory', ofFiles(({ memory }) => writeFile(memory, 'other', { flag: 'r+' })), /memory .*checksum/],
  ['has half a memory', ofFiles(({ memory }) => truncate(memory, 0)), /memory is damaged/],
  ['has lost its memory', ofFiles(({ memory }) => rm(memory)), /memory .*missing/],
  ['has a damaged map of its memory', ofFiles(({ memoryMap }) => truncate(memoryMap, 9)), /memory.map .*short/],
];

describe('a snapshot of a built template that', { concurrency: 3 }, () => {
  for (const [what, change, reason] of [
    ANOTHER_MACHINE,
    [
      'was taken with another guest agent',
      ({ layout }) => writeTestImages(layout, { agentDiskHash: 'new' }),
      /another guest agent or kernel/,
    ],
    [
      'was taken with another kernel',
      ({ layout }) => writeTestImages(layout, { kernelVersion: '6.9' }),
      /another guest agent or kernel/,
    ],
    ...DAMAGES,
    ['has lost what describes it', ofFiles(({ manifest }) => rm(manifest)), /snapshot.json .*missing/],
  ] satisfies [string, Change, RegExp][])
    test(`${what} is not used, which is told once, and is made anew`, async (t) => {
      const { testHost, manager, reasons } = await hostWithSnapshots(t, (host) => change(host, TEST_TEMPLATE_ID));
      const old = await snapshotOf(testHost);
      const first = await create(manager);
      assert.equal(first.how, 'booted');
      assert.equal((await create(manager)).how, 'restored', 'it waits for the new one');
      const now = await snapshotOf(testHost);
      assert.notEqual(now, old);
      const names = await readdir(testHost.layout.templateDir(TEST_TEMPLATE_ID));
      assert.deepEqual(
        names.filter((name) => name.startsWith('snapshot-')),
        [now],
      );
      assert.equal(reasons(TEST_TEMPLATE_ID).length, 1);
      assert.match(reasons(TEST_TEMPLATE_ID)[0] ?? '', reason);
      assert.equal(manager.get(first.sandboxId).state, 'running');
    });

  test('its VMM does not load is not used: that create boots, and it is made anew', async (t) => {
    const { testHost, manager, reasons } = await hostWithSnapshots(t, ({ failures }) => {
      failures.restoreError = new NestboxError('snapshot_damaged', 'the VMM refuses it');
    });
    const old = await snapshotOf(testHost);
    assert.equal((await create(manager)).how, 'restored', 'it was tried');
    delete testHost.failures.restoreError;
    assert.deepEqual(reasons(TEST_TEMPLATE_ID), ['the VMM refuses it']);
    assert.equal((await create(manager)).how, 'restored');
    assert.notEqual(await snapshotOf(testHost), old);
  });

  test('cannot be restored for another reason is not to blame, and the create fails', async (t) => {
    const { testHost, manager } = await hostWithSnapshots(t, ({ failures }) => {
      failures.restoreError = new NestboxError('vm_died', 'the VMM ended');
    });
    const old = await snapshotOf(testHost);
    await assert.rejects(create(manager), withCode('vm_died'));
    assert.deepEqual(await testHost.leftovers(), []);
    delete testHost.failures.restoreError;
    assert.equal((await create(manager)).how, 'restored');
    assert.equal(await snapshotOf(testHost), old);
  });
});

describe('a snapshot that a user has taken', { concurrency: 3 }, () => {
  test('and that is of another machine boots from its disk, which is told once, and is not made anew', async (t) => {
    const [, change, reason] = ANOTHER_MACHINE;
    const { testHost, manager, reasons } = await hostWithSnapshots(t, (host) => change(host, 'snap'));
    const old = await snapshotOf(testHost, 'snap');
    for (let count = 0; count < 2; count++) {
      const { sandboxId, how } = await create(manager, 'snap');
      assert.equal(how, 'booted');
      assert.equal(await testHost.memoryOf(sandboxId).read(), '');
      // Its own layer, that of the sandbox that it was taken of, and that of the template's snapshot.
      const { machine } = await testHost.running(sandboxId);
      assert.equal(machine.layers.length, 3);
    }
    assert.equal(await snapshotOf(testHost, 'snap'), old);
    assert.equal(reasons('snap').length, 1);
    assert.match(reasons('snap')[0] ?? '', reason);
    assert.ok((await manager.templates()).every(({ damage }) => damage === undefined));
  });

  for (const [what, change, reason] of DAMAGES)
    test(`and that ${what} is refused, listed as damaged, told once, and can be deleted`, async (t) => {
      const { testHost, manager, reasons, damages } = await hostWithSnapshots(t, (host) => change(host, 'snap'));
      const old = await snapshotOf(testHost, 'snap');
      for (let count = 0; count < 2; count++)
        await assert.rejects(create(manager, 'snap'), withCode('snapshot_damaged', reason));
      assert.deepEqual(await testHost.leftovers(), []);
      assert.equal(await snapshotOf(testHost, 'snap'), old, 'it is not made anew');
      const listed = async () => (await manager.templates()).filter(({ damage }) => damage !== undefined);
      const [found, ...others] = await listed();
      assert.deepEqual([found?.templateId, others.length], ['snap', 0]);
      assert.match(found?.damage ?? '', reason);
      assert.deepEqual([damages('snap').length, reasons('snap').length], [1, 0]);
      assert.equal((await create(manager)).how, 'restored', 'others are not concerned');
      assert.equal(await manager.deleteTemplate('snap'), true);
      assert.deepEqual(await listed(), []);
      await assert.rejects(create(manager, 'snap'), withCode('template_not_found'));
    });

  test('and that was mended can be used again, and is no more listed as damaged', async (t) => {
    const { testHost, manager } = await hostWithSnapshots(t, () => {});
    const { devices } = filesOf(testHost.layout, 'snap', await snapshotOf(testHost, 'snap'));
    const right = await readFile(devices);
    await writeFile(devices, 'other');
    await assert.rejects(create(manager, 'snap'), withCode('snapshot_damaged'));
    await writeFile(devices, right);
    assert.equal((await create(manager, 'snap')).how, 'restored');
    assert.ok((await manager.templates()).every(({ damage }) => damage === undefined));
  });

  for (const name of ['devices', 'snapshot.json', 'memory', 'agent.ext4', 'rootfs.ext4'])
    test(`and that loses its ${name} when sandboxes have come from it is refused, until it is put back`, async (t) => {
      const { testHost, manager } = await hostWithSnapshots(t, () => {});
      assert.equal((await create(manager, 'snap')).how, 'restored');
      const folder = testHost.layout.templateSnapshotDir('snap', (await snapshotOf(testHost, 'snap')) ?? '');
      await rename(join(folder, name), join(folder, '..', 'aside'));
      await assert.rejects(
        create(manager, 'snap'),
        withCode('snapshot_damaged', new RegExp(`${name}.* is damaged.*delete the snapshot`)),
      );
      await rename(join(folder, '..', 'aside'), join(folder, name));
      assert.equal((await create(manager, 'snap')).how, 'restored');
    });

  test('and that is damaged boots from its disk where no memory is to be used', async (t) => {
    const testHost = await makeTestHost(t);
    await restoreFixture(t, testHost);
    await rm(filesOf(testHost.layout, 'snap', await snapshotOf(testHost, 'snap')).memory);
    const { manager } = await testHost.start({ useSnapshots: false });
    assert.equal((await create(manager, 'snap')).how, 'booted');
  });

  test('is restored whatever guest agent and kernel are today’s', async (t) => {
    const { testHost, manager } = await hostWithSnapshots(t, ({ layout }) =>
      writeTestImages(layout, { agentDiskHash: 'new', kernelVersion: '6.9' }),
    );
    const { sandboxId, how } = await create(manager, 'snap');
    assert.equal(how, 'restored');
    assert.equal(await testHost.memoryOf(sandboxId).read(), 'what it remembers');
    const { machine } = await testHost.running(sandboxId);
    assert.deepEqual([machine.agentDiskHash, machine.kernelVersion], ['abc', '6.1.0-test']);
    const agentDisk = await readFile(machineFiles(testHost.layout.sandboxDir(sandboxId)).agentDisk, 'utf8');
    assert.equal(agentDisk, 'the agent disk abc');
  });

  test('and that its VMM does not load is refused, and is not tried again', async (t) => {
    const { testHost, manager } = await hostWithSnapshots(t, ({ failures }) => {
      failures.restoreError = new NestboxError('snapshot_damaged', 'the VMM refuses it');
    });
    const refused = withCode('snapshot_damaged', /the VMM refuses it/);
    await assert.rejects(create(manager, 'snap'), refused);
    delete testHost.failures.restoreError;
    await assert.rejects(create(manager, 'snap'), refused);
    assert.deepEqual(await testHost.leftovers(), []);
    // Until somebody puts a file in place of what it refuses.
    const { devices } = filesOf(testHost.layout, 'snap', await snapshotOf(testHost, 'snap'));
    await copyFile(devices, `${devices}.right`);
    await rename(`${devices}.right`, devices);
    assert.equal((await create(manager, 'snap')).how, 'restored');
  });

  test('and that has lost what describes it, or a layer, cannot be used at all', async (t) => {
    for (const change of [
      ofFiles(({ manifest }) => rm(manifest)),
      ofFiles(async ({ layer, manifest }) => {
        const { manifest: said } = JSON.parse(await readFile(manifest, 'utf8'));
        await rm(layer(said.disk.layers[1]));
      }),
    ]) {
      const { testHost, manager } = await hostWithSnapshots(t, (host) => change(host, 'snap'));
      await assert.rejects(create(manager, 'snap'), withCode('snapshot_damaged', /missing/));
      assert.deepEqual(await testHost.leftovers(), []);
    }
  });
});
