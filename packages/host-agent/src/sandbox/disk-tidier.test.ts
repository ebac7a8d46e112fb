import assert from 'node:assert/strict';
import { copyFile, link, mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { runCommand } from '@nestbox/kit';
import { DiskLayers, isLayerName } from '../storage/disk-layers.ts';
import { machineFiles } from '../storage/machine-folder.ts';
import { SandboxRecordStore } from '../storage/sandbox-records.ts';
import { sealDisk } from '../storage/snapshot-manifest.ts';
import { gate, until } from '../testing/sandbox-checks.ts';
import { makeTestHost, type TestHost, testSpec } from '../testing/test-host.ts';
import { BootGate } from './boot-gate.ts';
import { DiskTidier, MAX_LAYERS, URGENT_LAYERS } from './disk-tidier.ts';
import { SandboxTable } from './sandbox-table.ts';
import { recordPaused } from './write-record.ts';

const WITH_MEMORY = { memory: true };
const DISK_MIB = 8;

/** The layers that a sandbox's record names. */
async function layersOf(testHost: TestHost, sandboxId: string): Promise<readonly string[]> {
  const { situation } = await testHost.record(sandboxId);
  assert.ok('machine' in situation);
  return situation.machine.layers;
}

async function layerFiles(testHost: TestHost, sandboxId: string): Promise<string[]> {
  return (await testHost.files(sandboxId)).filter(isLayerName);
}

/** What a guest would write: a byte of its own at its number times 64 KiB. */
async function write(layer: string, number: number): Promise<void> {
  await runCommand('qemu-io', ['-f', 'qcow2', '-c', `write -P ${number} ${number * 64}k 64k`, layer]);
}

async function readNumbers(layer: string, numbers: readonly number[]): Promise<number[]> {
  const reads = numbers.flatMap((number) => ['-c', `read -P ${number} ${number * 64}k 64k`]);
  const { stdout } = await runCommand('qemu-io', ['-r', '-f', 'qcow2', ...reads, layer]);
  return stdout.includes('verification failed') ? [] : [...numbers];
}

describe('the layers of a sandbox that is paused and resumed', () => {
  test('stay few, however often, and keep what was written', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start();
    const { sandboxId } = (await manager.create(testSpec())).result;
    const folder = testHost.layout.sandboxDir(sandboxId);
    const rounds = [1, 2, 3, 4, 5];
    for (const round of rounds) {
      const [top = ''] = await layersOf(testHost, sandboxId);
      await write(join(folder, top), round);
      await manager.pause(sandboxId, WITH_MEMORY);
      await until('merging', async () => (await layerFiles(testHost, sandboxId)).length === 1);
      await manager.resume(sandboxId, WITH_MEMORY);
      assert.equal((await layersOf(testHost, sandboxId)).length, 2);
    }
    const [top = ''] = await layersOf(testHost, sandboxId);
    assert.deepEqual(await readNumbers(join(folder, top), rounds), rounds);
  });

  test('are right when a resume or a pause comes while they are written down', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start();
    const { sandboxId } = (await manager.create(testSpec())).result;
    await manager.pause(sandboxId, WITH_MEMORY);
    await manager.resume(sandboxId, WITH_MEMORY);
    const writes = holdWrites(t, 'paused', { after: 1 });
    await manager.pause(sandboxId, WITH_MEMORY);
    await until('the merged layers', writes.areHeld);
    const resuming = manager.resume(sandboxId, WITH_MEMORY);
    writes.letGo();
    await resuming;
    const layers = await layersOf(testHost, sandboxId);
    assert.equal(layers.length, 2);
    assert.deepEqual(new Set(await layerFiles(testHost, sandboxId)), new Set(layers));
  });

  test('are merged inside the running guest when they have become many', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start();
    const { sandboxId } = (await manager.create(testSpec())).result;
    const folder = testHost.layout.sandboxDir(sandboxId);
    const numbers: number[] = [];
    // A fork takes a layer, whatever becomes of its copies.
    for (let number = 1; number <= MAX_LAYERS; number++) {
      const layers = await layersOf(testHost, sandboxId);
      assert.equal(layers.length, number);
      await write(join(folder, layers[0] ?? ''), number);
      numbers.push(number);
      await manager.fork(sandboxId, []);
    }
    await until('merging', async () => (await layerFiles(testHost, sandboxId)).length === 1);
    const [top = '', ...rest] = await layersOf(testHost, sandboxId);
    assert.deepEqual(rest, []);
    assert.deepEqual(await readNumbers(join(folder, top), numbers), numbers);
    // What it has in hand is what is there: it goes through another pause.
    await manager.pause(sandboxId, WITH_MEMORY);
    await manager.resume(sandboxId, WITH_MEMORY);
    assert.ok((await layersOf(testHost, sandboxId)).includes(top));
  });

  test('are merged inside the running guest, too, when a resume has made them many', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start();
    const { sandboxId } = (await manager.create(testSpec())).result;
    for (let count = 1; count < MAX_LAYERS; count++) await manager.fork(sandboxId, []);
    // While it is paused nothing is merged: somebody else has these layers, and they are not too many.
    const folder = testHost.layout.sandboxDir(sandboxId);
    const other = join(testHost.paths.stateDir, 'other');
    await mkdir(other);
    const shared = await layersOf(testHost, sandboxId);
    assert.equal(shared.length, MAX_LAYERS);
    for (const name of shared) await link(join(folder, name), join(other, name));
    await manager.pause(sandboxId, WITH_MEMORY);
    await manager.resume(sandboxId, WITH_MEMORY);
    await until('merging', async () => (await layerFiles(testHost, sandboxId)).length === 1);
    const [top = '', ...rest] = await layersOf(testHost, sandboxId);
    assert.deepEqual(rest, []);
    assert.ok(!shared.includes(top));
    assert.deepEqual(new Set(await readdir(other)), new Set(shared));
  });

  test('of a running guest are right when a pause comes while they are written down, or before', async (t) => {
    for (const moment of ['long before', 'just before', 'meanwhile']) {
      const testHost = await makeTestHost(t);
      const { manager } = await testHost.start();
      const { sandboxId } = (await manager.create(testSpec())).result;
      for (let count = 1; count < MAX_LAYERS; count++) await manager.fork(sandboxId, []);
      const flatten = gate();
      testHost.failures.flattenGate = flatten.promise;
      testHost.failures.flattenIsNearlyDone = moment !== 'long before';
      await manager.fork(sandboxId, []);
      const many = await layersOf(testHost, sandboxId);
      assert.equal(many.length, MAX_LAYERS + 1);
      const writes = holdWrites(t, 'running');
      if (moment === 'meanwhile') {
        flatten.open();
        await until('the merged layers', writes.areHeld);
      }
      const pausing = manager.pause(sandboxId, WITH_MEMORY);
      flatten.open();
      writes.letGo();
      await pausing;
      const left = moment === 'long before' ? many : many.slice(0, 1);
      assert.deepEqual(await layersOf(testHost, sandboxId), left);
      await manager.resume(sandboxId, WITH_MEMORY);
      const layers = new Set(await layersOf(testHost, sandboxId));
      const files = new Set(await layerFiles(testHost, sandboxId));
      assert.deepEqual(
        [...layers].filter((name) => !files.has(name)),
        [],
        moment,
      );
    }
  });
});

test('merging that ends when the VM does leaves nothing of the sandbox', async (t) => {
  const testHost = await makeTestHost(t);
  const { manager } = await testHost.start();
  const { sandboxId } = (await manager.create(testSpec())).result;
  const { vm } = await testHost.running(sandboxId);
  for (let count = 1; count < MAX_LAYERS; count++) await manager.fork(sandboxId, []);
  const flatten = gate();
  testHost.failures.flattenGate = flatten.promise;
  await manager.fork(sandboxId, []);
  const writes = holdWrites(t, 'running');
  flatten.open();
  await until('the merged layers', writes.areHeld);
  process.kill(vm.process.pid, 'SIGKILL');
  await delay(200);
  writes.letGo();
  await until('the end', () => manager.list().length === 0);
  await delay(100);
  assert.deepEqual(await testHost.leftovers(), []);
});

/** Holds the writing of records that say so, but for the first ones. */
function holdWrites(t: TestContext, state: string, { after = 0 } = {}) {
  const held = gate();
  const original = SandboxRecordStore.prototype.write;
  let seen = 0;
  const hold = async function (this: SandboxRecordStore<object>, ...args: Parameters<typeof original>) {
    if (JSON.stringify(args[1]).includes(`"state":"${state}"`) && ++seen > after) await held.promise;
    return original.apply(this, args);
  };
  const mock = t.mock.method(SandboxRecordStore.prototype, 'write', hold);
  return {
    areHeld: () => seen > after,
    letGo() {
      held.open();
      mock.mock.restore();
    },
  };
}

describe('a tidier', () => {
  /** A paused sandbox with a stack of so many layers. */
  async function pausedWith(t: TestContext, count: number) {
    const testHost = await makeTestHost(t);
    const context = testHost.context();
    const spec = testSpec();
    const folder = testHost.layout.sandboxDir(spec.sandboxId);
    await mkdir(folder, { recursive: true });
    await copyFile(testHost.layout.templateRootfs('base00000000000000t1'), machineFiles(folder).rootfs);
    const stack = new DiskLayers(testHost.layout.layerWorkDir);
    const layers: string[] = [];
    while (layers.length < count) layers.unshift(await stack.create({ folder, below: layers[0], diskMib: DISK_MIB }));
    await write(join(folder, layers[0] ?? ''), 1);
    const identity = {
      spec,
      templateId: 't',
      vcpuCount: 1,
      memoryMib: 128,
      diskMib: DISK_MIB,
      guest: { envVars: {}, defaultUser: 'user' },
      createdAtMs: 0,
    };
    const machine = { layers, kernelVersion: 'k', agentDiskHash: 'a', envdVersion: '0' };
    const paused = { machine, memory: false, disk: await sealDisk(folder, layers), pausedAtMs: 0, damage: undefined };
    await recordPaused(context, identity, paused);
    const table = new SandboxTable();
    const sandbox = table.add(identity, { state: 'paused', paused });
    const filesThere = async () => new Set((await readdir(folder)).filter(isLayerName));
    return { testHost, context, folder, layers, sandbox, filesThere, tidier: new DiskTidier(context, new BootGate(1)) };
  }

  test('that is stopped leaves a short stack as it was', async (t) => {
    const { tidier, sandbox, layers, testHost, filesThere } = await pausedWith(t, 3);
    const before = await filesThere();
    tidier.begin(sandbox);
    await tidier.stop(sandbox.id);
    assert.deepEqual(await layersOf(testHost, sandbox.id), layers);
    assert.deepEqual(await filesThere(), before);
    assert.equal(sandbox.lifecycle.state, 'paused');
  });

  test('finishes what is urgent before it lets somebody else at the disk', async (t) => {
    const { tidier, sandbox, testHost, folder, filesThere } = await pausedWith(t, URGENT_LAYERS + 1);
    tidier.begin(sandbox);
    await tidier.stop(sandbox.id);
    const left = await layersOf(testHost, sandbox.id);
    assert.ok(left.length < URGENT_LAYERS + 1);
    assert.deepEqual(await filesThere(), new Set(left));
    assert.deepEqual(await readNumbers(join(folder, left[0] ?? ''), [1]), [1]);
  });

  test('does not touch layers that others have, and merges them into one of its own when there are many', async (t) => {
    const { tidier, sandbox, testHost, folder, layers } = await pausedWith(t, MAX_LAYERS + 1);
    const other = join(testHost.layout.transitDir, 'other');
    await mkdir(other, { recursive: true });
    for (const name of layers) await runCommand('ln', [join(folder, name), join(other, name)]);
    const before = await Promise.all(layers.map((name) => readFile(join(other, name))));
    tidier.begin(sandbox);
    await tidier.settled();
    const [flat = '', ...rest] = await layersOf(testHost, sandbox.id);
    assert.deepEqual(rest, []);
    assert.ok(!layers.includes(flat));
    assert.deepEqual(await readNumbers(join(folder, flat), [1]), [1]);
    const after = await Promise.all(layers.map((name) => readFile(join(other, name))));
    assert.ok(after.every((bytes, index) => bytes.equals(before[index] ?? Buffer.alloc(0))));
  });

  test('that was stopped begins nothing by itself, whoever has waited for it', async (t) => {
    const { tidier, sandbox, testHost, layers } = await pausedWith(t, 3);
    const reading = gate();
    const never = new AbortController().signal;
    const reads: string[] = [];
    const first = tidier.whilePaused(sandbox, never, async (_, signal) => {
      reads.push('first');
      signal.addEventListener('abort', reading.open);
      await reading.promise;
    });
    // Both make way for the other, and the stop comes before their turn.
    const second = tidier.whilePaused(sandbox, never, async () => void reads.push('second'));
    tidier.begin(sandbox);
    await tidier.stop(sandbox.id);
    await Promise.all([first, second]);
    await delay(50);
    await tidier.settled();
    assert.deepEqual(reads, ['first']);
    assert.deepEqual(await layersOf(testHost, sandbox.id), layers);
    tidier.release(sandbox.id);
    await tidier.whilePaused(sandbox, never, async () => void reads.push('third'));
    assert.deepEqual(reads, ['first', 'third']);
    tidier.begin(sandbox);
    await tidier.settled();
    assert.equal((await layersOf(testHost, sandbox.id)).length, 2);
  });

  test('makes who only reads give way', async (t) => {
    const { tidier, sandbox, testHost } = await pausedWith(t, 3);
    const reading = gate();
    const read = tidier.whilePaused(sandbox, new AbortController().signal, async (_, signal) => {
      signal.addEventListener('abort', reading.open);
      await reading.promise;
    });
    tidier.begin(sandbox);
    await read;
    await until('the merging', async () => (await layersOf(testHost, sandbox.id)).length === 2);
    await tidier.settled();
  });

  test('that is closed begins nothing any more', async (t) => {
    const { tidier, sandbox, testHost, layers } = await pausedWith(t, 3);
    await tidier.close();
    tidier.begin(sandbox);
    await tidier.settled();
    assert.deepEqual(await layersOf(testHost, sandbox.id), layers);
  });
});
