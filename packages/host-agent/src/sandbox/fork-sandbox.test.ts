import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { NestboxError, newSandboxId } from '@nestbox/contract';
import { isProcessAlive } from '@nestbox/kit';
import { isLayerName } from '../storage/disk-layers.ts';
import { machineFiles } from '../storage/machine-folder.ts';
import { SandboxRecordStore } from '../storage/sandbox-records.ts';
import { askThroughProxy, gate, until, withCode } from '../testing/sandbox-checks.ts';
import { makeTestHost, type TestHost, testSpec } from '../testing/test-host.ts';
import type { ForkCopy, ForkOutcome, SandboxInfo } from './sandbox.ts';

const WITH_MEMORY = { memory: true };
const FULL = new NestboxError('host_disk_full', 'there is no room');

function copies(count: number): ForkCopy[] {
  return Array.from({ length: count }, (_, index) => ({ sandboxId: newSandboxId(), accessToken: `token ${index}` }));
}

function sandboxOf(outcome: ForkOutcome | undefined): SandboxInfo {
  assert.ok(outcome !== undefined);
  if ('error' in outcome) throw outcome.error;
  return outcome.sandbox;
}

function errorOf(outcome: ForkOutcome | undefined): NestboxError {
  assert.ok(outcome !== undefined && 'error' in outcome);
  return outcome.error;
}

async function layerFiles(testHost: TestHost, sandboxId: string): Promise<string[]> {
  return (await testHost.files(sandboxId)).filter(isLayerName);
}

async function inTransit({ layout }: TestHost): Promise<string[]> {
  return existsSync(layout.transitDir) ? readdir(layout.transitDir) : [];
}

async function lastInit(testHost: TestHost, sandboxId: string) {
  const { slot } = await testHost.running(sandboxId);
  return JSON.parse(await (await fetch(`http://${slot.hostReachableAddress}:49983/last-init`)).text());
}

describe('a fork', () => {
  test('makes copies with ids and tokens of their own, and the source goes on', async (t) => {
    const testHost = await makeTestHost(t);
    const host = await testHost.start();
    const { manager } = host;
    const spec = testSpec({ accessToken: 'secret', envVars: { A: '1' }, allowInternetAccess: false });
    const { sandboxId } = spec;
    await manager.create(spec);
    await testHost.memoryOf(sandboxId).write('what it remembers');
    const before = await testHost.running(sandboxId);
    const [first, second, third] = copies(3);
    assert.ok(first && second && third);
    const wanted = [first, second, { ...third, accessToken: undefined }];
    const { result, stages } = await manager.fork(sandboxId, wanted);
    assert.deepEqual(
      result.map(sandboxOf),
      wanted.map((copy) => manager.get(copy.sandboxId)),
    );
    for (const name of ['files', 'prepare', 'frozen', 'save', 'disk', 'record', `copy ${first.sandboxId}`])
      assert.ok(
        stages.some((stage) => stage.name === name),
        name,
      );

    const after = await testHost.running(sandboxId);
    assert.deepEqual(after.vm, before.vm);
    assert.deepEqual(after.machine.layers.slice(1), before.machine.layers);
    assert.ok(isProcessAlive(after.vm.process));
    assert.equal((await askThroughProxy(host, sandboxId, '/health')).status, 204);
    assert.equal((await manager.create(spec)).result.state, 'running');

    for (const copy of wanted) {
      assert.equal(manager.get(copy.sandboxId).state, 'running');
      assert.equal(await testHost.memoryOf(copy.sandboxId).read(), 'what it remembers');
      const init = await lastInit(testHost, copy.sandboxId);
      assert.equal(init.sandbox_id, copy.sandboxId);
      assert.equal(init.accessToken, copy.accessToken);
      assert.deepEqual(init.envVars, { FROM_TEMPLATE: 'yes', BOTH: 'template', A: '1' });
      const { machine, slot } = await testHost.running(copy.sandboxId);
      assert.deepEqual(testHost.networks.egress.get(slot.index)?.denied, [{ first: 0, last: 2 ** 32 - 1 }]);
      assert.deepEqual(machine.layers.slice(1), before.machine.layers);
      assert.notEqual(machine.layers[0], after.machine.layers[0]);
      assert.equal((await manager.create({ ...spec, ...copy })).result.state, 'running');
    }
    assert.deepEqual(await inTransit(testHost), []);
    for (const { sandboxId: id } of [spec, ...wanted]) await manager.destroy(id);
    assert.deepEqual(await testHost.leftovers(), []);
  });

  test('leaves source and copies independent of each other, whichever goes first', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start();
    const source = (await manager.create(testSpec())).result.sandboxId;
    await testHost.memoryOf(source).write('from the source');
    const [first, second] = copies(2);
    assert.ok(first && second);
    await manager.fork(source, [first, second]);
    await manager.destroy(source);
    await testHost.memoryOf(first.sandboxId).write('by the first copy');
    for (const id of [first.sandboxId, second.sandboxId]) {
      await manager.pause(id, WITH_MEMORY);
      await manager.resume(id, WITH_MEMORY);
      const { machine } = await testHost.running(id);
      assert.deepEqual(new Set(await layerFiles(testHost, id)), new Set(machine.layers));
    }
    assert.equal(await testHost.memoryOf(first.sandboxId).read(), 'by the first copy');
    assert.equal(await testHost.memoryOf(second.sandboxId).read(), 'from the source');

    // A copy of a copy, which outlives it; and the one that it was made of goes on without it.
    const [third] = copies(1);
    assert.ok(third);
    await manager.fork(second.sandboxId, [third]);
    await manager.destroy(third.sandboxId);
    await manager.pause(second.sandboxId, WITH_MEMORY);
    await manager.resume(second.sandboxId, WITH_MEMORY);
    assert.equal(await testHost.memoryOf(second.sandboxId).read(), 'from the source');
  });

  test('gives copies of a guest that changed much one memory image together', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start();
    const source = (await manager.create(testSpec())).result.sandboxId;
    await testHost.memoryOf(source).write('much');
    testHost.failures.changedPages = (64 * 2 ** 20) / 4096;
    const wanted = copies(2);
    await manager.fork(source, wanted);
    const inodes = await Promise.all(
      [source, ...wanted.map(({ sandboxId }) => sandboxId)].map(async (id) => {
        const files = machineFiles(testHost.layout.sandboxDir(id));
        return { image: (await stat(files.memory)).ino, hasMap: existsSync(files.memoryMap) };
      }),
    );
    assert.deepEqual(
      inodes.map(({ hasMap }) => hasMap),
      [false, true, true],
    );
    assert.equal(inodes[1]?.image, inodes[2]?.image);
    assert.notEqual(inodes[0]?.image, inodes[1]?.image);
    testHost.failures.changedPages = 1;
    for (const { sandboxId } of wanted) {
      assert.equal(await testHost.memoryOf(sandboxId).read(), 'much');
      await manager.pause(sandboxId, WITH_MEMORY);
      await manager.resume(sandboxId, WITH_MEMORY);
    }
  });

  test('tells of each copy how it went when the host has room for some', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start({ limits: { maxSandboxes: 3 } });
    const source = (await manager.create(testSpec())).result.sandboxId;
    const wanted = copies(3);
    const { result } = await manager.fork(source, wanted);
    assert.deepEqual(
      result.map((outcome) => ('sandbox' in outcome ? outcome.sandbox.sandboxId : outcome.error.code)),
      [wanted[0]?.sandboxId, wanted[1]?.sandboxId, 'host_capacity'],
    );
    assert.throws(() => manager.get(wanted[2]?.sandboxId ?? ''), withCode('sandbox_not_found'));
    assert.equal(manager.list().length, 3);
    assert.deepEqual(await inTransit(testHost), []);
  });

  test('whose copy cannot be started tells that, and the source goes on', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start();
    const source = (await manager.create(testSpec())).result.sandboxId;
    testHost.failures.restoreError = new NestboxError('vm_died', 'it did not load');
    const { result } = await manager.fork(source, copies(1));
    withCode('vm_died', /it did not load/)(errorOf(result[0]));
    assert.equal(manager.get(source).state, 'running');
    await manager.destroy(source);
    assert.deepEqual(await testHost.leftovers(), []);
  });

  test('to an id that is taken, also twice or only just, is a conflict, and nothing happens', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start();
    const source = (await manager.create(testSpec())).result.sandboxId;
    const before = await testHost.running(source);
    const files = await testHost.files(source);
    const [fresh] = copies(1);
    assert.ok(fresh);
    const other = testSpec();
    testHost.agent.mood = 'deaf';
    const creating = assert.rejects(manager.create(other), withCode('sandbox_stopping'));
    // The first at once: the create has not come far.
    for (const wanted of [
      [fresh, { sandboxId: other.sandboxId, accessToken: undefined }],
      [{ sandboxId: source, accessToken: undefined }],
      [fresh, fresh],
    ])
      await assert.rejects(manager.fork(source, wanted), withCode('conflict'));
    assert.deepEqual(await testHost.running(source), before);
    assert.deepEqual(await testHost.files(source), files);
    assert.deepEqual(await inTransit(testHost), []);
    assert.throws(() => manager.get(fresh.sandboxId), withCode('sandbox_not_found'));
    await manager.destroy(other.sandboxId);
    await creating;
  });

  test('to an id that a create takes meanwhile leaves the one that was quicker alone', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start();
    const source = (await manager.create(testSpec())).result.sandboxId;
    const save = gate();
    testHost.failures.saveGate = save.promise;
    const quicker = testSpec();
    const forking = manager.fork(source, [{ sandboxId: quicker.sandboxId, accessToken: undefined }]);
    await until('the fork', async () => (await inTransit(testHost)).length === 1);
    await manager.create(quicker);
    save.open();
    withCode('conflict')(errorOf((await forking).result[0]));
    assert.equal((await manager.create(quicker)).result.state, 'running');
  });

  test('of a paused sandbox is sandbox_paused, of an unknown one sandbox_not_found', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start();
    const source = (await manager.create(testSpec())).result.sandboxId;
    await manager.pause(source, WITH_MEMORY);
    await assert.rejects(manager.fork(source, copies(1)), withCode('sandbox_paused'));
    await assert.rejects(manager.fork('i00000000000000000000', copies(1)), withCode('sandbox_not_found'));
    assert.deepEqual(await inTransit(testHost), []);
  });
});

describe('a fork that fails', () => {
  for (const [what, failure] of [
    ['saving', { saveError: FULL }],
    ['switching the disk', { switchDiskError: FULL }],
  ] as const)
    test(`in ${what} lets the source go on as it was, and makes no copies`, async (t) => {
      const testHost = await makeTestHost(t);
      testHost.features.needsSnapshotPrepare = true;
      const { manager } = await testHost.start();
      const source = (await manager.create(testSpec())).result.sandboxId;
      const before = await testHost.running(source);
      const files = await testHost.files(source);
      Object.assign(testHost.failures, failure);
      await assert.rejects(manager.fork(source, copies(2)), withCode('host_disk_full'));
      assert.equal(manager.get(source).state, 'running');
      assert.equal((await manager.metrics(source)).cpuCount, 2);
      assert.deepEqual(await testHost.running(source), before);
      assert.deepEqual(await testHost.files(source), files);
      assert.equal(manager.list().length, 1);
      assert.deepEqual(await inTransit(testHost), []);
      assert.deepEqual(await testHost.asked(source), ['POST /init', 'POST /snapshot/prepare', 'POST /init']);
      for (const name of Object.keys(failure)) Reflect.deleteProperty(testHost.failures, name);
      sandboxOf((await manager.fork(source, copies(1))).result[0]);
    });

  test('to hear that the disk was switched goes on on the new one, and makes its copies', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start();
    const source = (await manager.create(testSpec())).result.sandboxId;
    const before = await testHost.running(source);
    testHost.failures.switchDiskUnheard = new NestboxError('sandbox_unreachable', 'no answer');
    sandboxOf((await manager.fork(source, copies(1))).result[0]);
    assert.deepEqual((await testHost.running(source)).machine.layers.slice(1), before.machine.layers);
  });

  test('to write down the new layer makes no copies; the source goes on on it, also for the next host agent', async (t) => {
    const testHost = await makeTestHost(t);
    testHost.features.needsSnapshotPrepare = true;
    const host = await testHost.start();
    const source = (await host.manager.create(testSpec())).result.sandboxId;
    const before = await testHost.running(source);
    const fail = async () => {
      throw FULL;
    };
    t.mock.method(SandboxRecordStore.prototype, 'write', fail, { times: 1 });
    await assert.rejects(host.manager.fork(source, copies(1)), withCode('host_disk_full'));
    assert.deepEqual(await inTransit(testHost), []);
    assert.deepEqual(await testHost.asked(source), ['POST /init', 'POST /snapshot/prepare', 'POST /init']);
    assert.deepEqual(await testHost.running(source), before);
    await host.stop();
    const { manager } = await testHost.start();
    const { machine } = await testHost.running(source);
    assert.deepEqual(machine.layers.slice(1), before.machine.layers);
    await manager.pause(source, WITH_MEMORY);
    assert.equal((await manager.resume(source, WITH_MEMORY)).result.state, 'running');
  });

  test('because the source cannot go on ends it, and says so', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start();
    const source = (await manager.create(testSpec())).result.sandboxId;
    testHost.failures.resumeError = new NestboxError('internal', 'the VMM does not follow');
    await assert.rejects(manager.fork(source, copies(1)), withCode('internal', /does not follow/));
    assert.throws(
      () => manager.get(source),
      withCode('sandbox_not_found', /did not go on after it had been copied: the VMM does not follow/),
    );
    assert.deepEqual(manager.list(), []);
    assert.deepEqual(await testHost.leftovers(), []);
  });

  for (const isSaved of [true, false])
    test(`or works (${isSaved}) while the source's VM manager does not answer keeps the source until it does`, async (t) => {
      const testHost = await makeTestHost(t);
      const { manager } = await testHost.start();
      const source = (await manager.create(testSpec())).result.sandboxId;
      testHost.failures.resumeError = new NestboxError('sandbox_unreachable', 'its manager does not answer.');
      if (!isSaved) testHost.failures.saveError = new NestboxError('host_disk_full', 'there is no room');
      const forking = manager.fork(source, copies(1)).catch((error: unknown) => error);
      await until('its standing still', () => manager.get(source).reason !== undefined);
      assert.equal(manager.get(source).state, 'running');
      delete testHost.failures.resumeError;
      delete testHost.failures.saveError;
      await until('its going on', () => manager.get(source).reason === undefined);
      assert.equal((await forking) instanceof NestboxError, !isSaved);
      assert.equal((await manager.fork(source, copies(1))).result.length, 1);
    });

  test('because the VM dies while it stands still ends the source', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start();
    const source = (await manager.create(testSpec())).result.sandboxId;
    const { vm } = await testHost.running(source);
    const save = gate();
    testHost.failures.saveGate = save.promise;
    const forking = assert.rejects(manager.fork(source, copies(1)), withCode('vm_died'));
    await until('the fork', async () => (await inTransit(testHost)).length === 1);
    process.kill(vm.process.pid, 'SIGKILL');
    await until('its end', () => !isProcessAlive(vm.process));
    save.open();
    await forking;
    await until('the clean-up', () => manager.list().length === 0);
    await until('the end of the clean-up', async () => (await testHost.leftovers()).length === 0);
  });

  test('because the host agent stops makes no copies, and the source goes on', async (t) => {
    const testHost = await makeTestHost(t);
    const host = await testHost.start();
    const source = (await host.manager.create(testSpec())).result.sandboxId;
    const save = gate();
    testHost.failures.saveGate = save.promise;
    const forking = host.manager.fork(source, copies(2));
    await until('the fork', async () => (await inTransit(testHost)).length === 1);
    const stopping = host.stop();
    save.open();
    const { result } = await forking;
    for (const outcome of result) withCode('host_unavailable')(errorOf(outcome));
    await stopping;
    assert.deepEqual(await inTransit(testHost), []);
    const { manager } = await testHost.start();
    assert.deepEqual(
      manager.list().map(({ sandboxId, state }) => ({ sandboxId, state })),
      [{ sandboxId: source, state: 'running' }],
    );
    assert.equal((await manager.metrics(source)).cpuCount, 2);
  });
});
