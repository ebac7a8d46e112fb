import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { ApiMachine } from '../api/api-machine.ts';
import { awaitSocket } from '../api/await-socket.ts';
import { VmmApi, VmmFaultError, VmmUnavailableError } from '../api/vmm-api.ts';
import { makeStandIn, type StandIn } from '../testing/stand-in/make-stand-in.ts';
import {
  bootVm,
  deleteVm,
  readVmState,
  resizeBalloon,
  restoreVm,
  setVmRunning,
  snapshotVm,
} from './cloud-hypervisor-calls.ts';

function stage(t: TestContext) {
  const standIn = makeStandIn('cloud-hypervisor', '52.0');
  t.after(() => standIn[Symbol.dispose]());
  const file = (name: string) => {
    writeFileSync(join(standIn.folder, name), '');
    return join(standIn.folder, name);
  };
  const folder = (name: string) => {
    mkdirSync(join(standIn.folder, name));
    return join(standIn.folder, name);
  };
  const vm: ApiMachine = {
    kernelPath: file('vmlinux'),
    initrdPath: file('initrd'),
    kernelArgs: [],
    vcpuCount: 1,
    memoryMib: 128,
    disks: [{ path: file('rootfs.ext4'), readOnly: false }],
    network: { tapName: 'lo', guestMac: '02:fc:00:00:00:05' },
  };
  return { standIn, vm, folder };
}

let count = 0;

async function launch(t: TestContext, standIn: StandIn): Promise<VmmApi> {
  const socket = join(standIn.folder, `api${++count}.sock`);
  const child = spawn(standIn.binary, ['--api-socket', `path=${socket}`], { stdio: 'ignore' });
  const exited = once(child, 'exit');
  t.after(async () => {
    child.kill('SIGKILL');
    await exited;
  });
  await awaitSocket(socket, () => child.exitCode === null && child.signalCode === null, { deadlineMs: 30_000 });
  return new VmmApi(socket);
}

function assertNoViolation(standIn: StandIn): void {
  const wrong = standIn.journal().filter(({ violation }) => violation === true);
  assert.deepEqual(wrong, []);
}

const memoryAfter = (standIn: StandIn, verb: string) =>
  standIn
    .journal()
    .filter(({ path, status }) => path.endsWith(`/vm.${verb}`) && status === 204)
    .at(-1)?.memory;

test('a VM boots, stands still, goes on, gives memory back and is deleted, as the API describes', async (t) => {
  const { standIn, vm } = stage(t);
  const api = await launch(t, standIn);
  await bootVm(api, vm);
  for (const running of [false, false, true, true]) {
    await setVmRunning(api, running);
    assert.equal(await readVmState(api), running ? 'Running' : 'Paused');
  }
  await resizeBalloon(api, 32);
  await deleteVm(api);
  await assert.rejects(readVmState(api), VmmFaultError);
  assertNoViolation(standIn);
});

for (const memory of ['eager', 'on-demand'] as const)
  test(`a VM that is restored (${memory}) has the memory that was saved, and so has the snapshot after it`, async (t) => {
    const { standIn, vm, folder } = stage(t);
    const source = await launch(t, standIn);
    await bootVm(source, { ...vm, network: undefined });
    await setVmRunning(source, false);
    const first = folder('first');
    await snapshotVm(source, first);
    const saved = memoryAfter(standIn, 'snapshot');
    const copy = await launch(t, standIn);
    await restoreVm(copy, first, memory);
    assert.equal(await readVmState(copy), 'Paused');
    assert.equal(memoryAfter(standIn, 'restore'), saved);
    standIn.plan({ preloaded: true });
    const second = folder('second');
    await snapshotVm(copy, second);
    await restoreVm(await launch(t, standIn), second, 'eager');
    assert.equal(memoryAfter(standIn, 'restore'), saved);
    assertNoViolation(standIn);
  });

test('after a restore on demand a snapshot without the preload is not complete: the preload is needed', async (t) => {
  const { standIn, vm, folder } = stage(t);
  const source = await launch(t, standIn);
  await bootVm(source, { ...vm, network: undefined });
  await setVmRunning(source, false);
  const [first, second] = [folder('first'), folder('second')];
  await snapshotVm(source, first);
  const copy = await launch(t, standIn);
  await restoreVm(copy, first, 'on-demand');
  await snapshotVm(copy, second);
  await restoreVm(await launch(t, standIn), second, 'eager');
  assert.notEqual(memoryAfter(standIn, 'restore'), memoryAfter(standIn, 'boot'));
});

test('refusals come with all that Cloud Hypervisor says of them', async (t) => {
  const { standIn, vm, folder } = stage(t);
  const api = await launch(t, standIn);
  await assert.rejects(
    bootVm(api, { ...vm, kernelPath: '/nowhere/kernel' }),
    /could not be created: \/nowhere\/kernel/,
  );
  await assert.rejects(setVmRunning(api, true), /not created/);
  await assert.rejects(restoreVm(api, folder('empty'), 'eager'), /could not be restored/);
  await bootVm(api, vm);
  await assert.rejects(snapshotVm(api, folder('early')), /not paused/);
});

for (const how of ['fault', 'die', 'die-after', 'truncate'] as const)
  test(`a boot that goes wrong (${how}) ends with an error`, async (t) => {
    const { standIn, vm } = stage(t);
    standIn.plan({ failures: [{ call: 'PUT /api/v1/vm.boot', how }] });
    const booted = bootVm(await launch(t, standIn), vm);
    await assert.rejects(booted, how === 'fault' ? VmmFaultError : VmmUnavailableError);
  });
