import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { isProcessAlive, type NestboxPaths, type ProcessIdentity } from '@nestbox/kit';
import { z } from 'zod';
import { isLayerName } from '../storage/disk-layers.ts';
import { makeTestHost, TEST_TEMPLATE_ID, type TestHost } from '../testing/test-host.ts';
import { findProcesses, readProcessState } from '../vmm/processes.ts';
import { sandboxRecord } from './record.ts';
import type { SandboxManager } from './sandbox.ts';

const DOOMED_HOST = join(import.meta.dirname, '..', 'testing', 'doomed-host.ts');
const WITH_MEMORY = { memory: true };
const spec = z.object({
  sandboxId: z.string(),
  templateId: z.string(),
  envVars: z.record(z.string(), z.string()),
  accessToken: z.string().optional(),
  allowInternetAccess: z.boolean(),
  allowOut: z.array(z.string()),
  denyOut: z.array(z.string()),
});
const announcement = z.object({ running: spec, starting: spec });
const ids = z.object({ sandboxId: z.string(), copy: z.string().default('') });

/** A host agent in a process of its own that has come to this moment (doomed-host.ts). */
async function doomedHost(t: TestContext, moment: string) {
  const testHost = await makeTestHost(t);
  const { stateDir, runDir, instance } = testHost.paths;
  const doomed = spawn(process.execPath, [DOOMED_HOST, stateDir, runDir, instance, moment], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => doomed.kill('SIGKILL'));
  const [line] = await once(createInterface({ input: doomed.stdout }), 'line');
  const said: unknown = JSON.parse(String(line));
  return {
    testHost,
    said,
    async kill() {
      const exited = once(doomed, 'exit');
      doomed.kill('SIGKILL');
      await exited;
    },
  };
}

/** Kills a host agent at this moment, and starts the next one. */
async function afterCrash(t: TestContext, moment: string) {
  const { testHost, said, kill } = await doomedHost(t, moment);
  await kill();
  const vms = await processesOf(testHost.paths);
  const { manager } = await testHost.start();
  return { testHost, said, vms, manager };
}

/** Every process of every VM. */
async function processesOf({ runDir }: NestboxPaths): Promise<ProcessIdentity[]> {
  const found = await findProcesses('environ', (words) => words.some((word) => word.includes(`=${runDir}/`)));
  return found.map(({ identity }) => identity);
}

function states(manager: SandboxManager): Record<string, string> {
  return Object.fromEntries(manager.list().map(({ sandboxId, state }) => [sandboxId, state]));
}

/** What a crash could have left beside it: nothing is there but what the record names. */
async function assertTidy(testHost: TestHost, sandboxId: string): Promise<void> {
  const { situation } = await testHost.record(sandboxId);
  assert.ok('machine' in situation);
  const names = await testHost.files(sandboxId);
  assert.deepEqual(new Set(names.filter(isLayerName)), new Set(situation.machine.layers));
  assert.deepEqual(
    names.filter((name) => /next|new/.test(name) || (situation.state === 'running' && name.startsWith('pause'))),
    [],
  );
  const { transitDir } = testHost.layout;
  assert.deepEqual(existsSync(transitDir) ? await readdir(transitDir) : [], []);
}

/** It has lost nothing, and can do everything that a sandbox can. */
async function assertWhole(testHost: TestHost, manager: SandboxManager, sandboxId: string): Promise<void> {
  if (manager.get(sandboxId).state === 'paused') await manager.resume(sandboxId, WITH_MEMORY);
  assert.equal(await testHost.memoryOf(sandboxId).read(), 'what it remembers');
  assert.equal((await manager.metrics(sandboxId)).cpuCount, 2);
  const { slot } = await testHost.running(sandboxId);
  const init: unknown = await (await fetch(`http://${slot.hostReachableAddress}:49983/last-init`)).json();
  assert.partialDeepStrictEqual(init, { sandbox_id: sandboxId, accessToken: 'secret' });
  await manager.pause(sandboxId, WITH_MEMORY);
  await manager.resume(sandboxId, WITH_MEMORY);
  assert.equal(await testHost.memoryOf(sandboxId).read(), 'what it remembers');
  await manager.destroy(sandboxId);
  assert.deepEqual(await testHost.leftovers(), []);
}

/** The VM of a create that does not come to its end, found as a stray is: by what its process carries. */
async function processOf(paths: NestboxPaths, sandboxId: string): Promise<ProcessIdentity> {
  const mark = `=${paths.runDir}/${sandboxId}`;
  for (const endsAt = performance.now() + 60_000; ; ) {
    const [found] = await findProcesses('environ', (words) => words.some((word) => word.endsWith(mark)));
    if (found !== undefined) return found.identity;
    assert.ok(performance.now() < endsAt, 'the VM did not start');
    await delay(20);
  }
}

test('after kill -9 of the host agent its running sandbox is found again and its half-made one is removed', async (t) => {
  const { testHost, said, kill } = await doomedHost(t, 'one runs, one starts');
  const { paths, layout } = testHost;
  const { running, starting } = announcement.parse(said);
  const half = await processOf(paths, starting.sandboxId);
  const halfRecord = sandboxRecord.parse(JSON.parse(await readFile(layout.sandboxRecord(starting.sandboxId), 'utf8')));
  assert.equal(halfRecord.situation.state, 'starting');
  await kill();
  const whole = sandboxRecord.parse(
    JSON.parse(await readFile(layout.sandboxRecord(running.sandboxId), 'utf8')),
  ).situation;
  assert.ok(whole.state === 'running' && isProcessAlive(whole.vm.process), 'the VM outlives its host agent');
  assert.ok(isProcessAlive(half));
  // What else a crash can leave.
  await mkdir(layout.sandboxDir('i00000000000000000000'));
  await writeFile(join(layout.sandboxDir('i00000000000000000000'), 'disk-00000000.qcow2'), 'a disk without a record');
  await mkdir(layout.sandboxRunDir('i00000000000000000000'));

  const { manager } = await testHost.start();
  assert.deepEqual(
    manager.list().map(({ sandboxId, state }) => ({ sandboxId, state })),
    [{ sandboxId: running.sandboxId, state: 'running' }],
  );
  assert.ok(isProcessAlive(whole.vm.process), 'and its processes go on');
  assert.ok(!isProcessAlive(half));
  assert.equal((await manager.metrics(running.sandboxId)).cpuCount, 2);
  assert.equal((await manager.create({ ...running, accessToken: running.accessToken })).result.state, 'running');
  assert.equal(manager.target(running.sandboxId).address, whole.slot.hostReachableAddress);

  await manager.destroy(running.sandboxId);
  assert.deepEqual(await testHost.leftovers(), []);
});

test('after kill -9 in the middle of a pause the sandbox goes on where it stood still', async (t) => {
  const { testHost, said, vms, manager } = await afterCrash(t, 'a pause is saving');
  const { sandboxId } = ids.parse(said);
  assert.deepEqual(states(manager), { [sandboxId]: 'running' });
  const { vm } = await testHost.running(sandboxId);
  assert.deepEqual(vms, [vm.process]);
  assert.ok(isProcessAlive(vm.process) && readProcessState(vm.process.pid) !== 'T');
  await assertTidy(testHost, sandboxId);
  await assertWhole(testHost, manager, sandboxId);
});

test('after kill -9 of a host agent that had written a pause down the sandbox is paused, and its VM is ended', async (t) => {
  const { testHost, said, vms, manager } = await afterCrash(t, 'a pause is recorded');
  const { sandboxId } = ids.parse(said);
  assert.deepEqual(states(manager), { [sandboxId]: 'paused' });
  assert.equal(vms.length, 1);
  assert.ok(vms.every((vm) => !isProcessAlive(vm)));
  assert.deepEqual(await testHost.leftovers(), [`sandbox folder ${sandboxId}`]);
  await assertTidy(testHost, sandboxId);
  await assertWhole(testHost, manager, sandboxId);
});

for (const moment of ['a resume waits for its guest', 'a boot from the disk waits for its guest'])
  test(`after kill -9 while ${moment} the sandbox is paused as before`, async (t) => {
    const { testHost, said, vms, manager } = await afterCrash(t, moment);
    const { sandboxId } = ids.parse(said);
    assert.deepEqual(states(manager), { [sandboxId]: 'paused' });
    assert.equal(manager.get(sandboxId).pausedMemory, true);
    assert.equal(vms.length, 1);
    assert.ok(vms.every((vm) => !isProcessAlive(vm)));
    assert.deepEqual(await testHost.leftovers(), [`sandbox folder ${sandboxId}`]);
    await assertTidy(testHost, sandboxId);
    await assertWhole(testHost, manager, sandboxId);
  });

test('after kill -9 between a fork’s new disk layer and its record the source goes on on that layer', async (t) => {
  const { testHost, said, kill } = await doomedHost(t, 'a fork has switched the disk');
  const { sandboxId } = ids.parse(said);
  await kill();
  const before = await testHost.running(sandboxId);
  assert.equal(readProcessState(before.vm.process.pid), 'T');
  const { manager } = await testHost.start();
  assert.deepEqual(states(manager), { [sandboxId]: 'running' });
  const { machine, vm } = await testHost.running(sandboxId);
  assert.deepEqual(machine.layers.slice(1), before.machine.layers);
  assert.ok(isProcessAlive(vm.process) && readProcessState(vm.process.pid) !== 'T');
  await assertTidy(testHost, sandboxId);
  await assertWhole(testHost, manager, sandboxId);
});

test('after kill -9 while a fork starts its copy the source goes on, and the copy is gone', async (t) => {
  const { testHost, said, vms, manager } = await afterCrash(t, 'a fork starts its copy');
  const { sandboxId, copy } = ids.parse(said);
  assert.deepEqual(states(manager), { [sandboxId]: 'running' });
  assert.deepEqual(
    vms.filter(isProcessAlive),
    [(await testHost.running(sandboxId)).vm.process],
    'and so is the VM of the copy',
  );
  assert.equal(existsSync(testHost.layout.sandboxDir(copy)), false);
  await assertTidy(testHost, sandboxId);
  await assertWhole(testHost, manager, sandboxId);
});

test('after kill -9 in the middle of a snapshot the source goes on, and there is no template', async (t) => {
  const { testHost, said, manager } = await afterCrash(t, 'a snapshot is saving');
  const { sandboxId } = ids.parse(said);
  assert.deepEqual(states(manager), { [sandboxId]: 'running' });
  assert.deepEqual(await readdir(testHost.layout.templatesDir), [TEST_TEMPLATE_ID]);
  await assertTidy(testHost, sandboxId);
  await assertWhole(testHost, manager, sandboxId);
});

for (const moment of ['a template’s snapshot is saving', 'a VM waits'])
  test(`after kill -9 while ${moment} nothing is left of it`, async (t) => {
    const { testHost, vms, manager } = await afterCrash(t, moment);
    assert.equal(vms.length, 1);
    assert.ok(vms.every((vm) => !isProcessAlive(vm)));
    assert.deepEqual(states(manager), {});
    assert.deepEqual(await testHost.leftovers(), []);
    assert.deepEqual(
      new Set(await readdir(testHost.layout.templateDir(TEST_TEMPLATE_ID))),
      new Set(['rootfs.ext4', 'template.json']),
    );
  });
