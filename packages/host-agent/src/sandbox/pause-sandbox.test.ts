import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { NestboxError, newSandboxId } from '@nestbox/contract';
import { isProcessAlive } from '@nestbox/kit';
import { openPageFile } from '../memory/page-file.ts';
import { machineFiles } from '../storage/machine-folder.ts';
import { SandboxRecordStore } from '../storage/sandbox-records.ts';
import { readManifest } from '../storage/snapshot-manifest.ts';
import { askThroughProxy, gate, until, untilState, withCode } from '../testing/sandbox-checks.ts';
import { makeTestHost, testSpec } from '../testing/test-host.ts';

const UNKNOWN = 'i00000000000000000000';
const FULL = new NestboxError('host_disk_full', 'there is no room');

describe('a pause', () => {
  test('writes the sandbox to the disk, and then gives back everything else that it held', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start();
    const { layout } = testHost;
    const spec = testSpec({ accessToken: 'secret', envVars: { A: '1' } });
    const { sandboxId } = spec;
    await manager.create(spec);
    await testHost.memoryOf(sandboxId).write('what it remembers');
    const { machine } = await testHost.running(sandboxId);

    const { result, stages } = await manager.pause(sandboxId, { memory: true });
    assert.deepEqual(result, manager.get(sandboxId));
    assert.equal(result.state, 'paused');
    assert.equal(result.pausedMemory, true);
    assert.equal(result.envdVersion, '0.6.99');
    const names = new Set(stages.map(({ name }) => name));
    for (const name of ['drain', 'prepare', 'freeze', 'save', 'sync', 'record']) assert.ok(names.has(name), name);

    const record = await testHost.record(sandboxId);
    assert.ok(record.situation.state === 'paused');
    assert.equal(record.accessToken, 'secret');
    assert.deepEqual(record.situation.machine, machine);
    assert.equal(record.situation.memory, true);
    assert.deepEqual(record.situation.disk.layers, machine.layers);
    const manifest = await readManifest(layout.sandboxPauseDir(sandboxId));
    assert.partialDeepStrictEqual(manifest, {
      machine: 'fake',
      kernelVersion: '6.1.0-test',
      agentDiskHash: 'abc',
      envdVersion: '0.6.99',
      vcpuCount: 2,
      memoryMib: 512,
      diskMib: 1024,
      hasPages: true,
      disk: record.situation.disk,
    });
    const { pages } = machineFiles(layout.sandboxPauseDir(sandboxId));
    assert.equal(openPageFile(pages).table.memoryBytes, 512 * 2 ** 20);
    assert.deepEqual(
      (await testHost.files(sandboxId)).map((name) => name.replace(/^disk-\w+/, 'disk')),
      [
        'agent.ext4',
        'console.log',
        'disk.qcow2',
        'memory',
        'pause/devices',
        'pause/pages',
        'pause/snapshot.json',
        'rootfs.ext4',
        'sandbox.json',
      ],
    );
    assert.equal((await stat(layout.sandboxPauseDir(sandboxId))).mode & 0o077, 0, 'memory is nobody else’s business');

    // Whoever asks next waits until everything is given back.
    await assert.rejects(manager.pause(sandboxId, { memory: true }), withCode('sandbox_paused', /Connect to it/));
    assert.deepEqual(await testHost.leftovers(), [`sandbox folder ${sandboxId}`]);
  });

  test('of an unknown sandbox is sandbox_not_found', async (t) => {
    const { manager } = await (await makeTestHost(t)).start();
    await assert.rejects(manager.pause(UNKNOWN, { memory: true }), withCode('sandbox_not_found'));
  });

  test('that is asked for twice at once happens once', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start();
    const { sandboxId } = (await manager.create(testSpec())).result;
    const pauses = [manager.pause(sandboxId, { memory: true }), manager.pause(sandboxId, { memory: false })];
    const [first, second] = await Promise.allSettled(pauses);
    assert.ok(first?.status === 'fulfilled' && second?.status === 'rejected');
    assert.equal(first.value.result.pausedMemory, true);
    withCode('sandbox_paused')(second.reason);
    assert.equal(manager.get(sandboxId).state, 'paused');
  });

  test('followed at once by a destroy leaves nothing', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start();
    const { sandboxId } = (await manager.create(testSpec())).result;
    const pausing = manager.pause(sandboxId, { memory: true });
    assert.equal(await manager.destroy(sandboxId), true);
    assert.equal((await pausing).result.state, 'paused');
    assert.deepEqual(await testHost.leftovers(), []);
    assert.throws(() => manager.get(sandboxId), withCode('sandbox_not_found', /destroyed/));
  });

  test('that a destroy overtakes leaves nothing', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start();
    const { sandboxId } = (await manager.create(testSpec())).result;
    const save = gate();
    testHost.failures.saveGate = save.promise;
    const pausing = manager.pause(sandboxId, { memory: true });
    await until('the pause', () => existsSync(testHost.layout.sandboxPauseDraft(sandboxId)));
    const destroying = manager.destroy(sandboxId);
    save.open();
    assert.equal((await pausing).result.state, 'paused');
    assert.equal(await destroying, true);
    assert.deepEqual(await testHost.leftovers(), []);
    assert.deepEqual(manager.list(), []);
  });

  test('without memory keeps the disk alone, which the guest has written everything to', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start();
    const { sandboxId } = (await manager.create(testSpec())).result;
    const { result } = await manager.pause(sandboxId, { memory: false });
    assert.equal(result.state, 'paused');
    assert.equal(result.pausedMemory, false);
    assert.deepEqual(await testHost.asked(sandboxId), ['POST /init', 'POST /snapshot/prepare']);
    const { situation } = await testHost.record(sandboxId);
    assert.ok(situation.state === 'paused' && !situation.memory);
    assert.ok((await testHost.files(sandboxId)).every((name) => !name.startsWith('pause')));
  });

  test('without memory of a guest that could not write all of it fails, and the guest goes on', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start();
    const { sandboxId } = (await manager.create(testSpec())).result;
    testHost.failures.stall = 'its writes wait';
    await assert.rejects(manager.pause(sandboxId, { memory: false }), withCode('host_disk_full', /its writes wait/));
    delete testHost.failures.stall;
    assert.equal(manager.get(sandboxId).state, 'running');
    assert.equal((await manager.pause(sandboxId, { memory: false })).result.state, 'paused');
  });

  test('with a driver that cannot do it is not_supported; keeping the disk alone takes less', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start();
    const { sandboxId } = (await manager.create(testSpec())).result;
    testHost.features.pause = false;
    await assert.rejects(manager.pause(sandboxId, { memory: false }), withCode('not_supported'));
    testHost.features.pause = true;
    testHost.features.snapshot = false;
    await assert.rejects(manager.pause(sandboxId, { memory: true }), withCode('not_supported'));
    assert.equal(manager.get(sandboxId).state, 'running');
    assert.equal((await manager.pause(sandboxId, { memory: false })).result.state, 'paused');
  });
});

describe('traffic', () => {
  test('that is under way comes to its end before a pause, and new one is refused meanwhile', async (t) => {
    const testHost = await makeTestHost(t);
    const host = await testHost.start();
    const { manager } = host;
    const { sandboxId } = (await manager.create(testSpec())).result;
    const slow = askThroughProxy(host, sandboxId, '/slow?ms=300');
    await until('traffic', () => manager.lastActivityMs(sandboxId) > manager.get(sandboxId).createdAtMs + 50);
    const save = gate();
    testHost.failures.saveGate = save.promise;
    const pausing = manager.pause(sandboxId, { memory: true });
    assert.deepEqual(await slow, { status: 200, body: 'done' });
    await until('the pause', () => existsSync(testHost.layout.sandboxPauseDraft(sandboxId)));
    assert.equal(manager.get(sandboxId).state, 'pausing');
    const refused = await askThroughProxy(host, sandboxId, '/health');
    assert.equal(refused.status, 502);
    assert.match(refused.body, /being paused/);
    assert.throws(() => manager.target(sandboxId), withCode('sandbox_unreachable', /pausing/));
    save.open();
    await pausing;
    const paused = await askThroughProxy(host, sandboxId, '/health');
    assert.equal(paused.status, 502);
    assert.match(paused.body, /"error_code":"sandbox_paused"/);
    assert.equal((await manager.activity(sandboxId)).runningCommands, 0);
  });
});

describe('a guest', () => {
  test('loads its memory and gets ready where the driver asks for that, and in that order', async (t) => {
    const testHost = await makeTestHost(t);
    Object.assign(testHost.features, { needsSnapshotPrepare: true, needsMemoryPreload: true });
    const { manager } = await testHost.start();
    const { sandboxId } = (await manager.create(testSpec())).result;
    await manager.pause(sandboxId, { memory: true });
    assert.deepEqual(await testHost.asked(sandboxId), [
      'POST /init',
      'POST /memory/preload',
      'GET /memory/preload',
      'POST /snapshot/prepare',
    ]);
  });

  test('is asked for nothing where the driver needs nothing', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start();
    const { sandboxId } = (await manager.create(testSpec())).result;
    await manager.pause(sandboxId, { memory: true });
    assert.deepEqual(await testHost.asked(sandboxId), ['POST /init']);
  });

  test('that does not get ready is saved as it is', async (t) => {
    const testHost = await makeTestHost(t);
    Object.assign(testHost.features, { needsSnapshotPrepare: true, needsMemoryPreload: true });
    testHost.agent.mood = 'no-prepare';
    const { manager } = await testHost.start();
    const { sandboxId } = (await manager.create(testSpec())).result;
    assert.equal((await manager.pause(sandboxId, { memory: true })).result.pausedMemory, true);
    assert.ok((await testHost.asked(sandboxId)).includes('POST /snapshot/prepare'));
  });

  test('that does not load its memory goes on, since its state would lack what it did not read', async (t) => {
    const testHost = await makeTestHost(t);
    Object.assign(testHost.features, { needsMemoryPreload: true });
    testHost.agent.mood = 'unread';
    const { manager } = await testHost.start();
    const { sandboxId } = (await manager.create(testSpec())).result;
    await assert.rejects(manager.pause(sandboxId, { memory: true }), withCode('sandbox_unreachable', /memory/));
    await assert.rejects(
      manager.snapshot(sandboxId, { templateId: 'snap', names: [] }),
      withCode('sandbox_unreachable', /memory/),
    );
    assert.equal(manager.get(sandboxId).state, 'running');
    // Its disk alone needs no memory.
    assert.equal((await manager.pause(sandboxId, { memory: false })).result.state, 'paused');
  });

  test('that got ready takes up its work again when the pause fails', async (t) => {
    const testHost = await makeTestHost(t);
    testHost.features.needsSnapshotPrepare = true;
    const { manager } = await testHost.start();
    const spec = testSpec({ envVars: { A: '1' } });
    await manager.create(spec);
    testHost.failures.saveError = FULL;
    await assert.rejects(manager.pause(spec.sandboxId, { memory: true }), withCode('host_disk_full'));
    assert.deepEqual(await testHost.asked(spec.sandboxId), ['POST /init', 'POST /snapshot/prepare', 'POST /init']);
    const address = manager.target(spec.sandboxId).address;
    const init = JSON.parse(await (await fetch(`http://${address}:49983/last-init`)).text());
    assert.deepEqual(init.envVars, { FROM_TEMPLATE: 'yes', BOTH: 'template', A: '1' });
  });
});

describe('a pause that fails', () => {
  for (const memory of [true, false])
    test(`(memory: ${memory}) leaves a sandbox that runs as before and takes traffic`, async (t) => {
      const testHost = await makeTestHost(t);
      const host = await testHost.start();
      const { manager } = host;
      const { sandboxId } = (await manager.create(testSpec())).result;
      const before = await testHost.running(sandboxId);
      const files = await testHost.files(sandboxId);
      if (memory) testHost.failures.saveError = FULL;
      // The record is the last thing that can fail.
      else
        t.mock.method(
          SandboxRecordStore.prototype,
          'write',
          async () => {
            throw FULL;
          },
          { times: 1 },
        );
      await assert.rejects(manager.pause(sandboxId, { memory }), withCode('host_disk_full', /there is no room/));
      assert.equal(manager.get(sandboxId).state, 'running');
      assert.deepEqual(await testHost.running(sandboxId), before);
      assert.deepEqual(await testHost.files(sandboxId), files);
      assert.equal((await askThroughProxy(host, sandboxId, '/health')).status, 204);
      // Its end is noticed again.
      const gone = untilState(manager.watch(AbortSignal.timeout(60_000)), sandboxId, 'gone');
      process.kill(before.vm.process.pid, 'SIGKILL');
      assert.match(await gone, /Its VM ended/);
    });

  test('is told in the log of the sandbox, since nobody may wait for its answer: once for each reason in a row', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start();
    const { sandboxId } = (await manager.create(testSpec())).result;
    const failures = async () => {
      const query = {
        cursorMs: undefined,
        limit: 100,
        backward: false,
        minLevel: 'warn',
        search: 'not be paused',
      } as const;
      return (await manager.logs(sandboxId, query)).map(({ message }) => message);
    };
    const fail = async (why: string) => {
      testHost.failures.saveError = new NestboxError('host_disk_full', why);
      await assert.rejects(manager.pause(sandboxId, { memory: true }), withCode('host_disk_full'));
    };
    await fail('there is no room');
    await fail('there is no room');
    const first = 'Sandbox could not be paused: there is no room';
    assert.deepEqual(await failures(), [first]);
    await fail('there is still no room');
    assert.deepEqual(await failures(), [first, 'Sandbox could not be paused: there is still no room']);
    delete testHost.failures.saveError;
    await manager.pause(sandboxId, { memory: true });
    await manager.resume(sandboxId, { memory: true });
    await fail('there is still no room');
    assert.equal((await failures()).length, 3);
  });

  test('when its record may have been written already leaves a record that says what is true', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start();
    const { sandboxId } = (await manager.create(testSpec())).result;
    const before = await testHost.running(sandboxId);
    const write = SandboxRecordStore.prototype.write;
    t.mock.method(
      SandboxRecordStore.prototype,
      'write',
      async function (this: SandboxRecordStore<object>, ...args: Parameters<typeof write>) {
        await write.apply(this, args);
        throw FULL;
      },
      { times: 1 },
    );
    await assert.rejects(manager.pause(sandboxId, { memory: true }), withCode('host_disk_full'));
    assert.deepEqual(await testHost.running(sandboxId), before);
    assert.equal((await manager.pause(sandboxId, { memory: true })).result.state, 'paused');
  });

  test('because its VM died while it stood still ends the sandbox, and says why', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start();
    const { sandboxId } = (await manager.create(testSpec())).result;
    const { vm } = await testHost.running(sandboxId);
    const save = gate();
    testHost.failures.saveGate = save.promise;
    const gone = untilState(manager.watch(AbortSignal.timeout(60_000)), sandboxId, 'gone');
    const pausing = manager.pause(sandboxId, { memory: true });
    await until('the pause', () => existsSync(testHost.layout.sandboxPauseDraft(sandboxId)));
    process.kill(vm.process.pid, 'SIGKILL');
    await until('its end', () => !isProcessAlive(vm.process));
    save.open();
    await assert.rejects(pausing, withCode('vm_died', /no longer running|SIGKILL/));
    assert.match(await gone, /could not be paused[\s\S]*(no longer running|SIGKILL)/);
    assert.throws(() => manager.get(sandboxId), withCode('sandbox_not_found', /could not be paused/));
    assert.deepEqual(await testHost.leftovers(), []);
  });

  test('and cannot go on ends the sandbox, and says why', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start();
    const { sandboxId } = (await manager.create(testSpec())).result;
    testHost.failures.saveError = FULL;
    testHost.failures.resumeError = new NestboxError('internal', 'the VMM does not follow');
    await assert.rejects(manager.pause(sandboxId, { memory: true }), withCode('host_disk_full'));
    assert.throws(() => manager.get(sandboxId), withCode('sandbox_not_found', /the VMM does not follow/));
    assert.deepEqual(await testHost.leftovers(), []);
  });

  test('and whose VM manager does not answer keeps the sandbox, which goes on when it answers', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start();
    const { sandboxId } = (await manager.create(testSpec())).result;
    const { vm } = await testHost.running(sandboxId);
    testHost.failures.saveError = FULL;
    testHost.failures.resumeError = new NestboxError('sandbox_unreachable', 'its manager does not answer.');
    await assert.rejects(manager.pause(sandboxId, { memory: true }), withCode('host_disk_full'));
    const { state, reason } = manager.get(sandboxId);
    assert.deepEqual(
      [state, reason],
      ['running', 'its manager does not answer. It goes on by itself as soon as that answers.'],
    );
    const standsStill = withCode('sandbox_unreachable', /stands still: its manager does not answer/);
    await assert.rejects(manager.pause(sandboxId, { memory: true }), standsStill);
    await assert.rejects(manager.fork(sandboxId, [{ sandboxId: newSandboxId(), accessToken: undefined }]), standsStill);
    assert.throws(() => manager.target(sandboxId), standsStill);

    delete testHost.failures.saveError;
    delete testHost.failures.resumeError;
    await until('its going on', () => manager.get(sandboxId).reason === undefined);
    assert.deepEqual((await testHost.running(sandboxId)).vm, vm);
    assert.equal((await fetch(`http://${manager.target(sandboxId).address}:49983/health`)).status, 204);
    assert.equal((await manager.pause(sandboxId, { memory: true })).result.state, 'paused');
  });

  test('for a guest that does not answer does not end the sandbox', async (t) => {
    const testHost = await makeTestHost(t);
    testHost.features.needsSnapshotPrepare = true;
    const { manager } = await testHost.start();
    const { sandboxId } = (await manager.create(testSpec())).result;
    const { slot } = await testHost.running(sandboxId);
    await fetch(`http://${slot.hostReachableAddress}:49983/mood?is=no-init`);
    testHost.failures.saveError = FULL;
    await assert.rejects(manager.pause(sandboxId, { memory: true }), withCode('host_disk_full'));
    assert.equal(manager.get(sandboxId).state, 'running');
  });
});

describe('a host agent that stops', () => {
  test('with its sandboxes keeps those that are paused', async (t) => {
    const testHost = await makeTestHost(t);
    const host = await testHost.start();
    const { sandboxId } = (await host.manager.create(testSpec())).result;
    await host.manager.create(testSpec());
    await host.manager.pause(sandboxId, { memory: true });
    await host.stop({ destroySandboxes: true });
    assert.deepEqual(await testHost.leftovers(), [`sandbox folder ${sandboxId}`]);
    await assert.rejects(async () => host.manager.pause(sandboxId, { memory: true }), withCode('host_unavailable'));
    const { manager } = await testHost.start();
    assert.equal(manager.get(sandboxId).state, 'paused');
  });

  test('waits for a pause that is under way', async (t) => {
    const testHost = await makeTestHost(t);
    const host = await testHost.start();
    const { sandboxId } = (await host.manager.create(testSpec())).result;
    const save = gate();
    testHost.failures.saveGate = save.promise;
    const pausing = host.manager.pause(sandboxId, { memory: true });
    await until('the pause', () => existsSync(testHost.layout.sandboxPauseDraft(sandboxId)));
    const stopping = host.stop({ destroySandboxes: true });
    save.open();
    assert.equal((await pausing).result.state, 'paused');
    await stopping;
    assert.deepEqual(await testHost.leftovers(), [`sandbox folder ${sandboxId}`]);
  });
});
