import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { NestboxError } from '@nestbox/contract';
import { runCommand } from '@nestbox/kit';
import { awaitSocket } from '../api/await-socket.ts';
import { VmmApi, VmmFaultError, VmmUnavailableError } from '../api/vmm-api.ts';
import { makeStandIn, type StandIn } from '../testing/stand-in/make-stand-in.ts';
import type { StandInPlan } from '../testing/stand-in/plan.ts';
import {
  createSnapshot,
  loadSnapshot,
  type MicroVm,
  readState,
  setRunning,
  startMicroVm,
} from './firecracker-calls.ts';
import { parseFirecrackerVersion } from './version.ts';

const MEMORY_MIB = 128;

/** A stand-in, and a microVM for it whose files are there. */
function stage(t: TestContext, plan: Partial<StandInPlan> = {}) {
  const standIn = makeStandIn('firecracker', '1.16.0');
  t.after(() => standIn[Symbol.dispose]());
  standIn.plan(plan);
  const file = (name: string, content = '') => {
    writeFileSync(join(standIn.folder, name), content);
    return join(standIn.folder, name);
  };
  const vm: MicroVm = {
    kernelPath: file('vmlinux', '\x7fELF'),
    initrdPath: file('initrd'),
    kernelArgs: [],
    vcpuCount: 2,
    memoryMib: MEMORY_MIB,
    disks: [
      { path: file('rootfs.ext4'), readOnly: false },
      { path: file('agent.ext4'), readOnly: true },
    ],
    // Every network namespace has it; the stand-in opens nothing.
    network: { tapName: 'lo', guestMac: '02:fc:00:00:00:05' },
    metadata: { sandbox_id: 'i1' },
  };
  return { standIn, vm };
}

let count = 0;

async function launch(t: TestContext, standIn: StandIn): Promise<VmmApi> {
  const socket = join(standIn.folder, `api${++count}.sock`);
  const child = spawn(standIn.binary, ['--api-sock', socket, '--id', 'i1'], { stdio: 'ignore' });
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

test('a microVM is configured and started in the order that Firecracker wants, as its API describes', async (t) => {
  const { standIn, vm } = stage(t);
  const api = await launch(t, standIn);
  assert.equal(await readState(api), 'Not started');
  await startMicroVm(api, vm);
  assert.equal(await readState(api), 'Running');
  assertNoViolation(standIn);
  assert.deepEqual(
    standIn
      .journal()
      .filter(({ method }) => method !== 'GET')
      .map(({ path }) => path),
    [
      ...['/boot-source', '/drives/rootfs', '/drives/drive1', '/network-interfaces/eth0', '/machine-config'],
      ...['/mmds/config', '/entropy', '/balloon', '/actions', '/mmds'],
    ],
  );
});

test('a pause holds, however often it is asked for, and so does a resume', async (t) => {
  const { standIn, vm } = stage(t);
  const api = await launch(t, standIn);
  await startMicroVm(api, { ...vm, network: undefined });
  for (const running of [false, false, true, true]) {
    await setRunning(api, running);
    assert.equal(await readState(api), running ? 'Running' : 'Paused');
  }
  assertNoViolation(standIn);
});

test('the memory of a snapshot is that of the guest after a load, through full ones and differences on top', async (t) => {
  const { standIn, vm } = stage(t);
  const files = { devicesPath: join(standIn.folder, 'devices'), memoryPath: join(standIn.folder, 'memory') };
  const lastDigest = () => standIn.journal().at(-1)?.memory;
  const source = await launch(t, standIn);
  await startMicroVm(source, vm);
  await setRunning(source, false);
  await createSnapshot(source, 'Full', files);
  for (let round = 0; round < 3; round++) {
    await setRunning(source, true);
    await setRunning(source, false);
    await createSnapshot(source, 'Diff', files);
  }
  const saved = lastDigest();
  assert.equal(statSync(files.memoryPath).size, MEMORY_MIB * 2 ** 20);
  const copy = await launch(t, standIn);
  await loadSnapshot(copy, files, vm.metadata);
  assert.equal(await readState(copy), 'Paused');
  assert.equal(
    standIn
      .journal()
      .filter(({ path }) => path === '/snapshot/load')
      .at(-1)?.memory,
    saved,
  );
  await setRunning(copy, true);
  assert.notEqual(lastDigest(), saved);
  assertNoViolation(standIn);
});

test('a difference alone has holes where nothing was written, and takes little of the disk', async (t) => {
  const { standIn, vm } = stage(t);
  const files = { devicesPath: join(standIn.folder, 'devices'), memoryPath: join(standIn.folder, 'memory') };
  const api = await launch(t, standIn);
  await startMicroVm(api, vm);
  await setRunning(api, false);
  await createSnapshot(api, 'Diff', files);
  const { size, blocks } = statSync(files.memoryPath);
  assert.equal(size, MEMORY_MIB * 2 ** 20);
  assert.ok(blocks > 0 && blocks * 512 < 2 ** 20, String(blocks));
});

test('what Firecracker refuses is told in its words: missing files, odd sizes, a kernel that is none', async (t) => {
  const { standIn, vm } = stage(t);
  const bzImage = join(standIn.folder, 'bzImage');
  writeFileSync(bzImage, 'HdrS');
  for (const [change, words] of [
    [{ kernelPath: '/nowhere/vmlinux' }, /kernel file cannot be opened/],
    [{ disks: [{ path: '/nowhere/disk', readOnly: false }] }, /backing file/],
    [{ vcpuCount: 33 }, /vCPU|more than 32/],
    [{ network: { tapName: 'no-such-tap', guestMac: '02:fc:00:00:00:05' } }, /no-such-tap/],
    [{ kernelPath: bzImage }, /ELF/],
  ] satisfies [Partial<MicroVm>, RegExp][]) {
    const api = await launch(t, standIn);
    await assert.rejects(startMicroVm(api, { ...vm, ...change }), (error) => {
      assert.ok(error instanceof VmmFaultError, String(error));
      assert.match(error.fault, words);
      return true;
    });
  }
});

test('a snapshot is refused while the guest runs, and a load that finds something else', async (t) => {
  const { standIn, vm } = stage(t);
  const files = { devicesPath: join(standIn.folder, 'devices'), memoryPath: join(standIn.folder, 'memory') };
  const api = await launch(t, standIn);
  await startMicroVm(api, vm);
  await assert.rejects(createSnapshot(api, 'Full', files), /not paused/);
  await setRunning(api, false);
  await createSnapshot(api, 'Full', files);
  await assert.rejects(loadSnapshot(api, files, undefined), /after starting/);
  truncateSync(files.memoryPath, 4096);
  await assert.rejects(loadSnapshot(await launch(t, standIn), files, undefined), VmmFaultError);
  writeFileSync(files.devicesPath, 'no devices');
  await assert.rejects(loadSnapshot(await launch(t, standIn), files, undefined), /crc64/);
});

for (const call of ['PUT /boot-source', 'PUT /machine-config', 'PUT /actions'])
  for (const how of ['fault', 'die', 'die-after', 'truncate'] as const)
    test(`${call} that goes wrong (${how}) ends the start with an error`, async (t) => {
      const { standIn, vm } = stage(t, { failures: [{ call, how }] });
      const api = await launch(t, standIn);
      await assert.rejects(startMicroVm(api, vm), how === 'fault' ? VmmFaultError : VmmUnavailableError);
    });

test('a slow answer is waited for; a call that hangs is given up by its signal', async (t) => {
  const { standIn, vm } = stage(t, { failures: [{ call: 'PUT /actions', how: 'slow', delayMs: 200 }] });
  await startMicroVm(await launch(t, standIn), vm);
  standIn.plan({ failures: [{ call: 'PUT /actions', how: 'hang' }] });
  const reason = new Error('the sandbox was killed');
  const abort = new AbortController();
  const started = startMicroVm(await launch(t, standIn), vm, abort.signal);
  setTimeout(() => abort.abort(reason), 300);
  await assert.rejects(started, reason);
});

test('a Firecracker that ends at once, or opens no socket, is told', async (t) => {
  const { standIn } = stage(t, { doomed: true });
  await assert.rejects(launch(t, standIn), /ended before/);
});

test('versions are told apart, and other programs from Firecracker', async (t) => {
  const { standIn } = stage(t);
  const { stdout } = await runCommand(standIn.binary, ['--version']);
  assert.deepEqual(parseFirecrackerVersion(stdout), { text: '1.16.0', minor: 16 });
  assert.equal(parseFirecrackerVersion('Firecracker v1.14.2\n').minor, 14);
  for (const other of ['Firecracker v1.7.0', 'Firecracker v2.0.0', 'QEMU emulator version 7.2', ''])
    assert.throws(
      () => parseFirecrackerVersion(other),
      (error) => error instanceof NestboxError && error.code === 'not_supported',
    );
});
