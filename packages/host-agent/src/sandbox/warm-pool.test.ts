import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { isProcessAlive } from '@nestbox/kit';
import { machineFiles } from '../storage/machine-folder.ts';
import { TemplateStore } from '../storage/template-store.ts';
import { until, withCode } from '../testing/sandbox-checks.ts';
import {
  makeTestHost,
  recordingLogger,
  TEST_TEMPLATE_ID,
  type TestHost,
  testSpec,
  writeTestTemplate,
} from '../testing/test-host.ts';
import { findProcesses } from '../vmm/processes.ts';
import type { SandboxManager } from './sandbox.ts';

const ONE = { warm: [{ templateId: 'base', count: 1 }] };
const TWO = { warm: [{ templateId: TEST_TEMPLATE_ID, count: 2 }] };

/** Waits until so many VMs wait, answers their ids. */
async function waiting(manager: SandboxManager, count: number, templateId = TEST_TEMPLATE_ID) {
  await until(`${count} VMs`, () => manager.warmSandboxIds(templateId).length === count);
  return manager.warmSandboxIds(templateId);
}

/** The VM that runs under this id. */
async function vmOf({ layout }: TestHost, sandboxId: string) {
  const mark = `=${layout.sandboxRunDir(sandboxId)}`;
  const [vm] = await findProcesses('environ', (words) => words.some((word) => word.endsWith(mark)));
  assert.ok(vm !== undefined, 'it has a VM');
  return vm.identity;
}

/** The one slot that is in use. */
function onlySlot({ networks }: TestHost) {
  const [slot, ...others] = networks.inUse.values();
  assert.ok(slot !== undefined && others.length === 0);
  return slot;
}

describe('VMs that wait', () => {
  test('are made ahead, have run a command, and are nobody’s sandboxes', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start(TWO);
    const ids = await waiting(manager, 2);
    assert.deepEqual(manager.list(), []);
    assert.throws(() => manager.get(ids[0] ?? ''), withCode('sandbox_not_found'));
    for (const id of ids) {
      assert.match(await readFile(testHost.layout.sandboxConsole(id), 'utf8'), /agent: runs \/bin\/bash/);
      assert.equal((await testHost.record(id)).situation.state, 'starting');
    }
    const { items } = await manager.diskUsage();
    assert.deepEqual(new Set(items.filter(({ kind }) => kind === 'warm').map(({ id }) => id)), new Set(ids));
    await delay(300);
    assert.equal(testHost.networks.inUse.size, 2, 'and no more than were ordered');
    assert.deepEqual(manager.warmSandboxIds('another'), []);
  });

  test('become the sandbox that is created under their id, with its own settings, and another takes their place', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start(ONE);
    const [sandboxId = ''] = await waiting(manager, 1);
    const vm = await vmOf(testHost, sandboxId);
    const slot = onlySlot(testHost);
    const spec = testSpec({
      sandboxId,
      accessToken: 'secret',
      envVars: { BOTH: 'create' },
      allowInternetAccess: false,
    });
    const { result, stages } = await manager.create(spec);
    assert.equal(result.state, 'running');
    assert.deepEqual(
      stages.map(({ name }) => name).filter((name) => ['kernel', 'restore'].includes(name)),
      [],
    );
    const running = await testHost.running(sandboxId);
    assert.deepEqual(running.vm.process, vm);
    const init = await (await fetch(`http://${slot.hostReachableAddress}:49983/last-init`)).json();
    assert.partialDeepStrictEqual(init, {
      sandbox_id: sandboxId,
      template_id: TEST_TEMPLATE_ID,
      accessToken: 'secret',
      envVars: { FROM_TEMPLATE: 'yes', BOTH: 'create' },
    });
    assert.deepEqual(testHost.networks.egress.get(slot.index)?.denied, [{ first: 0, last: 2 ** 32 - 1 }]);
    assert.equal((await manager.metrics(sandboxId)).cpuCount, 2);
    assert.deepEqual((await manager.create(spec)).result, result);
    assert.notDeepEqual(await waiting(manager, 1), [sandboxId]);
    // It is a sandbox like any other.
    await manager.pause(sandboxId, { memory: true });
    await manager.resume(sandboxId, { memory: true });
    await manager.destroy(sandboxId);
    assert.deepEqual(
      manager.list().map(({ sandboxId: id }) => id),
      [],
    );
  });

  test('are left alone by a create under another id', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start(ONE);
    const ids = await waiting(manager, 1);
    const vm = await vmOf(testHost, ids[0] ?? '');
    const { result, stages } = await manager.create(testSpec());
    assert.ok(stages.some(({ name }) => name === 'kernel'));
    assert.notDeepEqual((await testHost.running(result.sandboxId)).vm.process, vm);
    assert.deepEqual(manager.warmSandboxIds(TEST_TEMPLATE_ID), ids);
    assert.ok(isProcessAlive(vm));
  });

  test('that die are replaced', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start(ONE);
    const [first = ''] = await waiting(manager, 1);
    process.kill((await vmOf(testHost, first)).pid, 'SIGKILL');
    await until('another', async () => ![undefined, first].includes(manager.warmSandboxIds(TEST_TEMPLATE_ID)[0]));
    await until('the clean-up', async () => (await testHost.leftovers()).every((name) => !name.includes(first)));
    assert.equal(testHost.networks.inUse.size, 1);
  });

  test('that do not take their settings are ended, and the create goes its ordinary way', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start(ONE);
    const [sandboxId = ''] = await waiting(manager, 1);
    const vm = await vmOf(testHost, sandboxId);
    await fetch(`http://${onlySlot(testHost).hostReachableAddress}:49983/mood?is=no-init`);
    const { result } = await manager.create(testSpec({ sandboxId }));
    assert.equal(result.state, 'running');
    assert.notDeepEqual((await testHost.running(sandboxId)).vm.process, vm);
    assert.ok(!isProcessAlive(vm));
    assert.equal((await manager.metrics(sandboxId)).cpuCount, 2);
  });

  test('do not get in the way of a create of another template, or of a fork, under their id', async (t) => {
    const testHost = await makeTestHost(t);
    await writeTestTemplate(testHost.layout, { templateId: 'other', names: [] });
    const { manager } = await testHost.start(ONE);
    const [sandboxId = ''] = await waiting(manager, 1);
    const vm = await vmOf(testHost, sandboxId);
    const source = (await manager.create(testSpec())).result.sandboxId;
    await assert.rejects(manager.fork(source, [{ sandboxId, accessToken: undefined }]), withCode('conflict'));
    const { result } = await manager.create(testSpec({ sandboxId, templateId: 'other' }));
    assert.equal(result.templateId, 'other');
    assert.ok(!isProcessAlive(vm));
    assert.notDeepEqual((await testHost.running(sandboxId)).vm.process, vm);
  });

  test('of a template that was replaced are not used, and are replaced themselves', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start(TWO);
    const [first = '', second = ''] = await waiting(manager, 2);
    const vms = [await vmOf(testHost, first), await vmOf(testHost, second)];
    await writeTestTemplate(testHost.layout, { createdAtMs: 1_800_000_000_000, envVars: { NEW: '1' } });
    await manager.create(testSpec({ sandboxId: first }));
    const { slot } = await testHost.running(first);
    const init = await (await fetch(`http://${slot.hostReachableAddress}:49983/last-init`)).json();
    assert.deepEqual(Object(init).envVars, { NEW: '1' });
    await until('new ones', () => {
      const ids = manager.warmSandboxIds(TEST_TEMPLATE_ID);
      return ids.length === 2 && !ids.includes(second);
    });
    assert.ok(vms.every((vm) => !isProcessAlive(vm)));
  });

  test('of a template whose snapshot cannot be used any more have it made anew, as creates do', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start({ ...ONE, useSnapshots: true });
    const [sandboxId = ''] = await waiting(manager, 1);
    const snapshotOf = async () => (await new TemplateStore(testHost.layout).get(TEST_TEMPLATE_ID)).snapshot;
    const before = await snapshotOf();
    assert.ok(before !== undefined);
    await writeFile(machineFiles(testHost.layout.templateSnapshotDir(TEST_TEMPLATE_ID, before)).devices, 'other');
    await manager.create(testSpec({ sandboxId }));
    await until('another snapshot', async () => ![undefined, before].includes(await snapshotOf()));
  });

  test('of a snapshot go with it', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start({ warm: [{ templateId: 'snap', count: 1 }] });
    const source = (await manager.create(testSpec())).result.sandboxId;
    await manager.snapshot(source, { templateId: 'snap', names: [] });
    // Something has changed: it is looked again.
    await manager.destroy(source);
    await waiting(manager, 1, 'snap');
    await manager.deleteTemplate('snap');
    assert.deepEqual(manager.warmSandboxIds('snap'), []);
    assert.deepEqual(await testHost.leftovers(), []);
  });

  test('of several templates come in turn, and those of one that fails keep nobody waiting', async (t) => {
    const testHost = await makeTestHost(t);
    await writeTestTemplate(testHost.layout, { templateId: 'small', names: [], memoryMib: 256 });
    // No file can be so large.
    await writeTestTemplate(testHost.layout, { templateId: 'hopeless', names: [], memoryMib: 2 ** 40 });
    const { logger, lines } = recordingLogger();
    const warm = [
      { templateId: 'hopeless', count: 3 },
      { templateId: TEST_TEMPLATE_ID, count: 3 },
      { templateId: 'small', count: 1 },
    ];
    const limits = { maxMemoryMib: 2 ** 41 };
    const { manager } = await testHost.start({ warm, limits, logger });
    await waiting(manager, 1, 'small');
    assert.ok(manager.warmSandboxIds(TEST_TEMPLATE_ID).length < 3, 'the small order does not come last');
    await waiting(manager, 3);
    assert.deepEqual(manager.warmSandboxIds('hopeless'), []);
    const told = lines.filter(({ level, text }) => level === 'warn' && text.startsWith('no VM of this template'));
    assert.equal(told.length, 1);
    assert.partialDeepStrictEqual(told[0]?.fields, { templateId: 'hopeless', retryMs: 2000 });
  });

  test('are made of the templates that are there, though others were ordered too', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start({ warm: [{ templateId: 'nowhere', count: 1 }, ...ONE.warm] });
    await waiting(manager, 1);
  });
});

describe('for want of room', () => {
  test('VMs that wait are ended one by one before somebody is refused, and made again later', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start({ ...TWO, limits: { maxSandboxes: 2 } });
    await waiting(manager, 2);
    const specs = [testSpec(), testSpec()];
    for (const [index, spec] of specs.entries()) {
      await manager.create(spec);
      assert.equal(manager.warmSandboxIds(TEST_TEMPLATE_ID).length, 1 - index);
    }
    assert.equal(testHost.networks.inUse.size, 2);
    await assert.rejects(manager.create(testSpec()), withCode('host_capacity'));
    await manager.destroy(specs[0]?.sandboxId ?? '');
    await waiting(manager, 1);
    await manager.pause(specs[1]?.sandboxId ?? '', { memory: true });
    await waiting(manager, 2);
    await manager.resume(specs[1]?.sandboxId ?? '', { memory: true });
    await waiting(manager, 1);
    assert.equal(testHost.networks.inUse.size, 2);
  });

  test('none are made beyond the limits of the host', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start({ ...TWO, limits: { maxMemoryMib: 600 } });
    const [sandboxId = ''] = await waiting(manager, 1);
    await manager.create(testSpec({ sandboxId }));
    await delay(400);
    assert.deepEqual(manager.warmSandboxIds(TEST_TEMPLATE_ID), []);
    assert.equal(testHost.networks.inUse.size, 1);
  });
});

describe('a pool', () => {
  test('waits until nobody else starts anything', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start({ ...ONE, prepareAtStart: false });
    testHost.agent.mood = 'deaf';
    const spec = testSpec();
    const creating = assert.rejects(manager.create(spec), withCode('sandbox_stopping'));
    await until('the boot', () => testHost.networks.inUse.size === 1);
    await manager.prepareTemplates();
    await delay(600);
    assert.equal(testHost.networks.inUse.size, 1);
    await manager.destroy(spec.sandboxId);
    await creating;
    testHost.agent.mood = '';
    await waiting(manager, 1);
  });

  test('leaves nothing when its host agent stops, also in the middle of making one', async (t) => {
    const testHost = await makeTestHost(t);
    const first = await testHost.start(TWO);
    await waiting(first.manager, 2);
    await first.stop();
    assert.deepEqual(await testHost.leftovers(), []);
    for (const elapsedMs of [160, 220, 300]) {
      const host = await testHost.start(TWO);
      await delay(elapsedMs);
      await host.stop();
      assert.deepEqual(await testHost.leftovers(), [], `after ${elapsedMs} ms`);
    }
  });
});
