import assert from 'node:assert/strict';
import { readFile, rm, stat, truncate, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { type ErrorCode, NestboxError } from '@nestbox/contract';
import { machineFiles } from '../storage/machine-folder.ts';
import { SandboxRecordStore } from '../storage/sandbox-records.ts';
import { askThroughProxy, gate, until, untilState, withCode } from '../testing/sandbox-checks.ts';
import { makeTestHost, type TestHost, testSpec } from '../testing/test-host.ts';
import { findProcesses } from '../vmm/processes.ts';
import type { SandboxSpec } from './sandbox.ts';

const WITH_MEMORY = { memory: true };
const FROM_DISK = { memory: false };

/** A host with a sandbox that is paused. */
async function pausedSandbox(t: TestContext, { memory = true, spec = testSpec() } = {}) {
  const testHost = await makeTestHost(t);
  const host = await testHost.start();
  await host.manager.create(spec);
  await testHost.memoryOf(spec.sandboxId).write('what it remembers');
  const before = await testHost.running(spec.sandboxId);
  await host.manager.pause(spec.sandboxId, { memory });
  // Until everything is given back.
  await assert.rejects(host.manager.pause(spec.sandboxId, { memory }), withCode('sandbox_paused'));
  return { testHost, host, manager: host.manager, sandboxId: spec.sandboxId, spec, before };
}

async function lastInit(testHost: TestHost, { sandboxId }: Pick<SandboxSpec, 'sandboxId'>) {
  const { slot } = await testHost.running(sandboxId);
  return JSON.parse(await (await fetch(`http://${slot.hostReachableAddress}:49983/last-init`)).text());
}

/** Everything of a paused sandbox as it was: files, record, nothing in the kernel. */
async function situationOf(testHost: TestHost, sandboxId: string) {
  const files = (await testHost.files(sandboxId)).filter((name) => name !== 'console.log');
  return { files, record: await testHost.record(sandboxId), leftovers: await testHost.leftovers() };
}

describe('a resume', () => {
  test('lets the sandbox go on with the settings that it had, though its template is gone', async (t) => {
    const spec = testSpec({ accessToken: 'secret', envVars: { BOTH: 'create' }, allowInternetAccess: false });
    const { testHost, host, manager, sandboxId, before } = await pausedSandbox(t, { spec });
    await rm(testHost.layout.templatesDir, { recursive: true });
    const { result, stages } = await manager.resume(sandboxId, WITH_MEMORY);
    assert.deepEqual(result, manager.get(sandboxId));
    assert.equal(result.state, 'running');
    assert.equal(result.pausedMemory, false);
    for (const name of ['verify', 'files', 'network', 'restore', 'resume', 'init', 'record'])
      assert.ok(
        stages.some((stage) => stage.name === name),
        name,
      );

    assert.equal(await testHost.memoryOf(sandboxId).read(), 'what it remembers');
    const init = await lastInit(testHost, spec);
    assert.equal(init.accessToken, 'secret');
    assert.equal(init.sandbox_id, sandboxId);
    assert.equal(init.template_id, 'base00000000000000t1');
    assert.equal(init.defaultUser, 'user');
    assert.deepEqual(init.envVars, { FROM_TEMPLATE: 'yes', BOTH: 'create' });
    const { slot, machine, vm } = await testHost.running(sandboxId);
    assert.deepEqual(testHost.networks.egress.get(slot.index)?.denied, [{ first: 0, last: 2 ** 32 - 1 }]);
    assert.notEqual(vm.process.pid, before.vm.process.pid);
    assert.deepEqual(machine.layers.slice(1), before.machine.layers, 'it writes to a new layer');
    assert.equal((await askThroughProxy(host, sandboxId, '/health')).status, 204);
    // Another create of it is answered as for one that never was paused.
    assert.deepEqual((await manager.create(spec)).result, result);

    await manager.resume(sandboxId, WITH_MEMORY);
    assert.ok((await testHost.files(sandboxId)).every((name) => !name.startsWith('pause')));
    const gone = untilState(manager.watch(AbortSignal.timeout(60_000)), sandboxId, 'gone');
    process.kill(vm.process.pid, 'SIGKILL');
    await gone;
    assert.deepEqual(await testHost.leftovers(), []);
  });

  test('of a sandbox whose memory was not kept boots it from its disk', async (t) => {
    const { testHost, manager, sandboxId, before } = await pausedSandbox(t, { memory: false });
    const { result } = await manager.resume(sandboxId, WITH_MEMORY);
    assert.equal(result.state, 'running');
    assert.equal(await testHost.memoryOf(sandboxId).read(), '');
    const { machine } = await testHost.running(sandboxId);
    assert.deepEqual(machine.layers.slice(1), before.machine.layers);
    assert.equal(machine.kernelVersion, '6.1.0-test');
  });

  test('without memory boots with the agent of today, on a blank memory, and forgets the other', async (t) => {
    const { testHost, manager, sandboxId } = await pausedSandbox(t);
    const images = JSON.parse(await readFile(testHost.layout.currentImages, 'utf8'));
    const agentDiskPath = testHost.layout.agentDisk('new');
    await writeFile(agentDiskPath, 'the agent disk of today');
    await writeFile(
      testHost.layout.currentImages,
      JSON.stringify({ ...images, agentDiskPath, agentDiskHash: 'new', kernelVersion: '6.2' }),
    );
    const files = machineFiles(testHost.layout.sandboxDir(sandboxId));
    const oldImage = await stat(files.memory);
    await manager.resume(sandboxId, FROM_DISK);
    await manager.resume(sandboxId, FROM_DISK);
    assert.equal(await testHost.memoryOf(sandboxId).read(), '');
    const { machine } = await testHost.running(sandboxId);
    assert.equal(machine.agentDiskHash, 'new');
    assert.equal(machine.kernelVersion, '6.2');
    assert.equal(await readFile(files.agentDisk, 'utf8'), 'the agent disk of today');
    assert.notEqual((await stat(files.memory)).ino, oldImage.ino);
    const names = await testHost.files(sandboxId);
    assert.ok(
      names.every((name) => !/pause|next|map/.test(name)),
      names.join(),
    );
    // And it can be paused and resumed with its memory again.
    await testHost.memoryOf(sandboxId).write('a second life');
    await manager.pause(sandboxId, WITH_MEMORY);
    await manager.resume(sandboxId, WITH_MEMORY);
    assert.equal(await testHost.memoryOf(sandboxId).read(), 'a second life');
  });

  test('of one that runs answers it as it is, and of an unknown one is sandbox_not_found', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start();
    const { result } = await manager.create(testSpec());
    const before = await testHost.running(result.sandboxId);
    assert.deepEqual((await manager.resume(result.sandboxId, FROM_DISK)).result, result);
    assert.deepEqual(await testHost.running(result.sandboxId), before);
    await assert.rejects(manager.resume('i00000000000000000000', WITH_MEMORY), withCode('sandbox_not_found'));
  });

  test('that is asked for twice at once happens once, and both get the sandbox', async (t) => {
    const { testHost, manager, sandboxId } = await pausedSandbox(t);
    const [first, second] = await Promise.all([
      manager.resume(sandboxId, WITH_MEMORY),
      manager.resume(sandboxId, FROM_DISK),
    ]);
    assert.deepEqual(second.result, first.result);
    assert.equal(testHost.networks.inUse.size, 1);
    assert.equal(await testHost.memoryOf(sandboxId).read(), 'what it remembers');
  });

  test('waits for the pause before it, and a pause for the resume before that', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start();
    const { sandboxId } = (await manager.create(testSpec())).result;
    const turns = [
      manager.pause(sandboxId, WITH_MEMORY),
      manager.resume(sandboxId, WITH_MEMORY),
      manager.pause(sandboxId, WITH_MEMORY),
      manager.resume(sandboxId, WITH_MEMORY),
    ];
    assert.deepEqual(
      (await Promise.all(turns)).map(({ result }) => result.state),
      ['paused', 'running', 'paused', 'running'],
    );
  });

  test('is possible after a restart of the host agent', async (t) => {
    const { testHost, host, sandboxId, spec } = await pausedSandbox(t);
    await host.stop();
    const { manager } = await testHost.start();
    assert.partialDeepStrictEqual(manager.get(sandboxId), { state: 'paused', pausedMemory: true });
    assert.equal((await manager.resume(sandboxId, WITH_MEMORY)).result.state, 'running');
    assert.equal(await testHost.memoryOf(sandboxId).read(), 'what it remembers');
    assert.equal((await manager.create(spec)).result.state, 'running');
  });
});

describe('a create', () => {
  test('under the id of a paused sandbox is sandbox_paused, with other settings a conflict', async (t) => {
    const { manager, spec } = await pausedSandbox(t);
    await assert.rejects(manager.create(spec), withCode('sandbox_paused', /paused/));
    await assert.rejects(manager.create({ ...spec, envVars: { X: '1' } }), withCode('conflict'));
  });
});

describe('a paused sandbox that cannot be resumed', () => {
  type Damage = (testHost: TestHost, sandboxId: string) => Promise<void>;
  const ofPause =
    (damage: (files: ReturnType<typeof machineFiles>) => Promise<void>): Damage =>
    ({ layout }, sandboxId) =>
      damage(machineFiles(layout.sandboxPauseDir(sandboxId)));
  const DAMAGES: readonly [string, Damage][] = [
    ['devices were changed', ofPause(({ devices }) => writeFile(devices, 'devices of another\n'))],
    ['devices are missing', ofPause(({ devices }) => rm(devices))],
    ['pages are cut', ofPause(({ pages }) => truncate(pages, 4096))],
    ['pages are missing', ofPause(({ pages }) => rm(pages))],
    ['manifest is cut', ofPause(({ manifest }) => truncate(manifest, 100))],
    ['manifest is missing', ofPause(({ manifest }) => rm(manifest))],
    [
      'manifest was changed',
      ofPause(async ({ manifest }) =>
        writeFile(manifest, (await readFile(manifest, 'utf8')).replace('"vcpuCount": 2', '"vcpuCount": 3')),
      ),
    ],
    ['memory image is missing', ({ layout }, id) => rm(machineFiles(layout.sandboxDir(id)).memory)],
    ['disk is of a later moment', async (testHost, id) => utimes(await topLayer(testHost, id), 1, 1)],
    ['disk has grown', async (testHost, id) => truncate(await topLayer(testHost, id), 2 ** 20)],
  ];

  async function topLayer({ layout, record }: TestHost, sandboxId: string): Promise<string> {
    const { situation } = await record(sandboxId);
    assert.ok(situation.state === 'paused');
    return join(layout.sandboxDir(sandboxId), situation.machine.layers[0] ?? '');
  }

  for (const [what, damage] of DAMAGES)
    test(`since its ${what} stays paused, and boots from its disk`, async (t) => {
      const { testHost, manager, sandboxId } = await pausedSandbox(t);
      await damage(testHost, sandboxId);
      const before = await situationOf(testHost, sandboxId);
      await assert.rejects(
        manager.resume(sandboxId, WITH_MEMORY),
        withCode('snapshot_damaged', /stays paused\..* --reboot/),
      );
      assert.equal(manager.get(sandboxId).state, 'paused');
      assert.doesNotMatch(manager.get(sandboxId).damage ?? '', /reboot/);
      assert.deepEqual(await situationOf(testHost, sandboxId), before);
      assert.equal((await manager.resume(sandboxId, FROM_DISK)).result.state, 'running');
    });

  for (const [what, damage] of [
    ['cut', (path) => truncate(path, 0)],
    ['changed', (path) => writeFile(path, 'other', { flag: 'r+' })],
  ] satisfies [string, (path: string) => Promise<void>][])
    test(`since its memory image was ${what} stays paused, and boots from its disk`, async (t) => {
      const testHost = await makeTestHost(t);
      const { manager } = await testHost.start({ useSnapshots: true, prepareAtStart: false });
      const source = (await manager.create(testSpec())).result.sandboxId;
      // So that the image is not a blank one.
      await manager.snapshot(source, { templateId: 'snap', names: [] });
      const { sandboxId } = (await manager.create(testSpec({ templateId: 'snap' }))).result;
      await manager.pause(sandboxId, WITH_MEMORY);
      await damage(machineFiles(testHost.layout.sandboxDir(sandboxId)).memory);
      await assert.rejects(manager.resume(sandboxId, WITH_MEMORY), withCode('snapshot_damaged'));
      assert.equal(manager.get(sandboxId).state, 'paused');
      assert.equal((await manager.resume(sandboxId, FROM_DISK)).result.state, 'running');
    });

  test('since a file of its pause is missing says so', async (t) => {
    for (const name of ['pages', 'devices', 'manifest'] as const) {
      const { testHost, manager, sandboxId } = await pausedSandbox(t);
      const path = machineFiles(testHost.layout.sandboxPauseDir(sandboxId))[name];
      await rm(path);
      // As QEMU's driver says of any file that is not there.
      testHost.failures.restoreError = new NestboxError('not_set_up', `${path} is missing. Run: nestbox setup`);
      await assert.rejects(
        manager.resume(sandboxId, WITH_MEMORY),
        withCode('snapshot_damaged', new RegExp(`${path} is damaged: it is missing\\.`)),
      );
    }
  });

  test('since a layer of its disk is missing says so, with or without memory, and stays paused', async (t) => {
    const { testHost, manager, sandboxId } = await pausedSandbox(t);
    await rm(await topLayer(testHost, sandboxId));
    for (const how of [WITH_MEMORY, FROM_DISK])
      await assert.rejects(manager.resume(sandboxId, how), withCode('snapshot_damaged', /disk-.*missing/));
    await assert.rejects(manager.resume(sandboxId, FROM_DISK), withCode('snapshot_damaged', /from a copy, or kill/));
    assert.equal(manager.get(sandboxId).state, 'paused');
    assert.deepEqual(await testHost.leftovers(), [`sandbox folder ${sandboxId}`]);
  });

  test('since this host is another machine stays paused, and boots from its disk', async (t) => {
    const { testHost, manager, sandboxId } = await pausedSandbox(t);
    testHost.failures.machine = 'another processor';
    await assert.rejects(
      manager.resume(sandboxId, WITH_MEMORY),
      withCode('snapshot_incompatible', /saved on "fake"; this host is "another processor".* --reboot/),
    );
    assert.equal(manager.get(sandboxId).state, 'paused');
    const query = { cursorMs: undefined, limit: 100, backward: false, minLevel: 'warn', search: '' } as const;
    const [told] = await manager.logs(sandboxId, query);
    assert.match(told?.message ?? '', /^Sandbox stays paused, since it could not be resumed: .*another processor/);
    assert.equal((await manager.resume(sandboxId, FROM_DISK)).result.state, 'running');
  });

  for (const [what, fail, code] of [
    [
      'since its VMM does not load it',
      (testHost) => {
        testHost.failures.restoreError = new NestboxError('vm_died', 'it did not load');
      },
      'vm_died',
    ],
    [
      'since its VMM does not let it go on',
      (testHost) => {
        testHost.failures.resumeError = new NestboxError('sandbox_unreachable', 'it does not follow');
      },
      'sandbox_unreachable',
    ],
    [
      'since its agent refuses its settings',
      (testHost) => {
        testHost.agent.mood = 'no-init';
      },
      'sandbox_unreachable',
    ],
    [
      'since its VM dies at once',
      (testHost) => {
        testHost.agent.mood = 'dies-on-init';
      },
      'vm_died',
    ],
    [
      'for want of a network',
      (testHost) => {
        testHost.networks.acquireError = new NestboxError('host_capacity', 'no slot');
      },
      'host_capacity',
    ],
    [
      'since its record cannot be written',
      (_testHost, t) => {
        const full = async () => {
          throw new NestboxError('host_disk_full', 'there is no room');
        };
        t.mock.method(SandboxRecordStore.prototype, 'write', full, { times: 1 });
      },
      'host_disk_full',
    ],
  ] satisfies [string, (testHost: TestHost, t: TestContext) => void, ErrorCode][])
    for (const how of [WITH_MEMORY, FROM_DISK])
      test(`${what} (memory: ${how.memory}) stays paused as it was, and can be resumed later`, async (t) => {
        const { testHost, manager, sandboxId } = await pausedSandbox(t);
        const before = await situationOf(testHost, sandboxId);
        fail(testHost, t);
        // A boot asks the VMM for neither.
        const isAsked = how.memory || !(testHost.failures.restoreError ?? testHost.failures.resumeError);
        if (isAsked) await assert.rejects(manager.resume(sandboxId, how), withCode(code));
        assert.equal(manager.get(sandboxId).state, 'paused');
        assert.deepEqual(await situationOf(testHost, sandboxId), before);
        delete testHost.failures.restoreError;
        delete testHost.failures.resumeError;
        testHost.agent.mood = '';
        testHost.networks.acquireError = undefined;
        assert.equal((await manager.resume(sandboxId, WITH_MEMORY)).result.state, 'running');
        assert.equal(await testHost.memoryOf(sandboxId).read(), 'what it remembers');
      });

  test('since the host is full stays paused; of two at once one gets the last place', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start({ limits: { maxSandboxes: 1 } });
    const ids: string[] = [];
    for (let count = 0; count < 2; count++) {
      const { sandboxId } = (await manager.create(testSpec())).result;
      await manager.pause(sandboxId, WITH_MEMORY);
      ids.push(sandboxId);
    }
    const results = await Promise.allSettled(ids.map((id) => manager.resume(id, WITH_MEMORY)));
    assert.deepEqual(
      results.map(({ status }) => status),
      ['fulfilled', 'rejected'],
    );
    if (results[1]?.status === 'rejected') withCode('host_capacity')(results[1].reason);
    assert.deepEqual(
      ids.map((id) => manager.get(id).state),
      ['running', 'paused'],
    );
    await manager.destroy(ids[0] ?? '');
    assert.equal((await manager.resume(ids[1] ?? '', WITH_MEMORY)).result.state, 'running');
  });

  test('since the host agent stops meanwhile stays paused, and nothing is left', async (t) => {
    const { testHost, host, sandboxId } = await pausedSandbox(t);
    const before = await situationOf(testHost, sandboxId);
    testHost.agent.mood = 'mute';
    const resuming = host.manager.resume(sandboxId, WITH_MEMORY);
    const refused = assert.rejects(resuming, withCode('host_unavailable'));
    const mark = `=${testHost.layout.sandboxRunDir(sandboxId)}`;
    await until('a VM', async () => {
      const found = await findProcesses('environ', (words) => words.some((word) => word.endsWith(mark)));
      return found.length > 0;
    });
    await host.stop({ destroySandboxes: true });
    await refused;
    assert.deepEqual(await situationOf(testHost, sandboxId), before);
    testHost.agent.mood = '';
    const { manager } = await testHost.start();
    assert.equal((await manager.resume(sandboxId, WITH_MEMORY)).result.state, 'running');
  });

  test('can be destroyed, also while it is being resumed', async (t) => {
    const { testHost, manager, sandboxId } = await pausedSandbox(t);
    const resume = gate();
    testHost.failures.resumeGate = resume.promise;
    const resuming = manager.resume(sandboxId, WITH_MEMORY);
    await delay(50);
    assert.equal(manager.get(sandboxId).state, 'resuming');
    const destroying = manager.destroy(sandboxId);
    resume.open();
    await resuming;
    assert.equal(await destroying, true);
    assert.deepEqual(await testHost.leftovers(), []);
  });
});
