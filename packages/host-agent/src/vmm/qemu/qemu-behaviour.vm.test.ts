import assert from 'node:assert/strict';
import { mkdir, readdir, readFile, readlink, stat, truncate, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { NestboxError } from '@nestbox/contract';
import { createLogger, runCommand } from '@nestbox/kit';
import { createDriverBench, type DriverBench, whyNoVm } from '../../testing/driver-bench.ts';
import type { VmDriver, VmHandle, VmSpec } from '../driver.ts';
import { endProcess } from '../end-process.ts';
import { launchDetached } from '../launch.ts';
import { bootArguments } from './command-line.ts';
import { createQemuDriver, type QemuDriverOptions } from './qemu-driver.ts';
import { JAILED_PRELOAD } from './qemu-jail.ts';
import { QmpClient } from './qmp-client.ts';
import { qemuRunFiles } from './run-files.ts';

/** Ends a test that would hang; nothing is measured by it. */
const LIMIT_MS = 60_000;

describe('QEMU, beyond what all drivers do', { skip: (await whyNoVm()) ?? false }, () => {
  let bench: DriverBench;

  before(async () => {
    bench = await createDriverBench();
  });

  after(async () => {
    await using driver = makeDriver();
    await driver.removeStrays([]);
    await bench.remove();
  });

  function makeDriver(overrides: Partial<QemuDriverOptions> = {}) {
    const { runRoot, instance, cacheDir } = bench;
    const logger = createLogger({ level: 'silent' });
    const driver = createQemuDriver({ runRoot, instance, cacheDir, logger, accelerator: 'tcg', ...overrides });
    return Object.assign(driver, { [Symbol.asyncDispose]: () => driver.close() });
  }

  async function startVm(driver: VmDriver, spec: VmSpec) {
    const handle = await driver.start(spec);
    return { handle, [Symbol.asyncDispose]: () => driver.destroy(handle) };
  }

  test('a boot without a sign of life in time is begun again, and counted', async () => {
    // No guest is up after 100 ms; with the time doubling, one is in the end.
    await using driver = makeDriver({ bootWatchdog: { firstSignMs: 100, retries: 9 } });
    await using vm = await startVm(driver, await bench.createSpec());
    assert.equal((await driver.status(vm.handle)).state, 'running');
    assert.ok(driver.bootRetries >= 1);
  });

  test('a kernel that panics before its first program has begun is told with its last words', async () => {
    await using driver = makeDriver();
    const error = await driver.start(await bench.createSpec('panic')).catch((thrown: unknown) => thrown);
    assert.ok(error instanceof NestboxError);
    assert.equal(error.code, 'vm_died');
    assert.match(error.message, /Kernel panic/);
  });

  test('a guest that shuts down or restarts ends its VM, and the reason says so', async () => {
    await using driver = makeDriver();
    for (const [mode, words] of [
      ['poweroff', /shut itself down/],
      ['reboot', /restarted/],
    ] as const) {
      await using vm = await startVm(driver, await bench.createSpec(mode));
      assert.match(await endOf(driver, vm.handle), words);
    }
  });

  test('a full host disk stalls the VM, and after a resume no byte is lost', async () => {
    const place = join(bench.folder, 'small');
    await mkdir(place);
    await using undo = new AsyncDisposableStack();
    await runCommand('mount', ['-t', 'tmpfs', '-o', 'size=3m', 'tmpfs', place]);
    undo.defer(async () => void (await runCommand('umount', ['--lazy', place])));
    const path = join(place, 'disk.qcow2');
    await runCommand('qemu-img', ['create', '-q', '-f', 'qcow2', path, '64M']);
    const driver = makeDriver();
    undo.defer(() => driver.close());
    const spec = await bench.createSpec('write', { disks: [{ path, format: 'qcow2', readOnly: false }] });
    const vm = await startVm(driver, spec);
    undo.use(vm);

    await until(async () => (await driver.status(vm.handle)).state === 'stalled');
    const status = await driver.status(vm.handle);
    assert.ok(status.state === 'stalled');
    assert.match(status.reason, /disk is full/);
    // While there is no room, a resume only ends in the same place.
    await driver.resume(vm.handle);
    await until(async () => (await driver.status(vm.handle)).state === 'stalled');
    assert.doesNotMatch(await readFile(spec.consolePath, 'utf8'), /test: written/);

    await runCommand('mount', ['-o', 'remount,size=32m', place]);
    await driver.resume(vm.handle);
    await until(async () => (await readFile(spec.consolePath, 'utf8')).includes('test: the same'));
    assert.equal((await driver.status(vm.handle)).state, 'running');
  });

  test('a start on a full host disk says so and leaves nothing', async () => {
    const place = join(bench.folder, 'full');
    await mkdir(place);
    await using undo = new AsyncDisposableStack();
    await runCommand('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', place]);
    undo.defer(async () => void (await runCommand('umount', ['--lazy', place])));
    const driver = makeDriver({ bootWatchdog: { firstSignMs: 100, retries: 0 } });
    undo.defer(() => driver.close());
    const filler = join(place, 'filler');
    await assert.rejects(writeFile(filler, Buffer.alloc(128 * 1024, 1)), { code: 'ENOSPC' });
    const spec = await bench.createSpec('idle', { consolePath: join(place, 'console.log') });
    await assert.rejects(driver.start(spec), { code: 'host_disk_full' });
    assert.deepEqual(await readdir(spec.runDir), []);
    // One page is left: enough for our line, too little for the guest's.
    await truncate(filler, 60 * 1024);
    await writeFile(join(place, 'console.log'), Buffer.alloc(4096 - 20, 1));
    await assert.rejects(driver.start(spec), { code: 'host_disk_full' });
    assert.deepEqual(await readdir(spec.runDir), []);
  });

  test('a VMM that does not react any more can be destroyed', async () => {
    await using driver = makeDriver({ stopGraceMs: 300 });
    const vm = await startVm(driver, await bench.createSpec());
    process.kill(vm.handle.process.pid, 'SIGSTOP');
    await driver.destroy(vm.handle);
    assert.equal((await driver.status(vm.handle)).state, 'gone');
    assert.deepEqual(await readdir(vm.handle.runDir), []);
  });

  test('a guest that floods its console does not fill the disk of the host', async () => {
    await using driver = makeDriver({ consoleCheckMs: 50, consoleLimits: { maxBytes: 10_000, keptBytes: 1000 } });
    const spec = await bench.createSpec('flood');
    await using _ = await startVm(driver, spec);
    const log = async () => readFile(spec.consolePath, 'utf8');
    await until(async () => (await log()).includes('[nestbox: older output was dropped]'));
    // QEMU goes on where the file ends now; had it gone on where it ended before, there would be a hole of zeros.
    const { length } = await log();
    await until(async () => (await log()).length !== length);
    assert.ok(!(await log()).includes('\0'));
  });

  test('a control socket that somebody else holds is reported, and works when it is free again', async () => {
    await using starter = makeDriver();
    await using vm = await startVm(starter, await bench.createSpec());
    await starter.close();
    const holder = connect(qemuRunFiles(vm.handle.runDir).qmpSocket);
    try {
      await new Promise((greeted) => holder.once('data', greeted));
      await using driver = makeDriver();
      await assert.rejects(driver.status(vm.handle), { code: 'sandbox_unreachable', message: /control socket/ });
      holder.destroy();
      await until(async () => (await driver.status(vm.handle).catch(() => undefined))?.state === 'running');
    } finally {
      holder.destroy();
    }
  });

  test('the VM runs in the network namespace of its sandbox', async () => {
    const netns = `nbt-${bench.instance}`;
    await using undo = new AsyncDisposableStack();
    await runCommand('ip', ['netns', 'add', netns]);
    undo.defer(async () => void (await runCommand('ip', ['netns', 'delete', netns])));
    const spec = await bench.createSpec('idle', {
      network: { netnsName: netns, tapName: 'tap0', guestMac: '02:fc:00:00:00:05' },
    });
    await runCommand('ip', ['-n', netns, 'tuntap', 'add', 'tap0', 'mode', 'tap', 'user', String(spec.userId)]);
    const driver = makeDriver();
    undo.defer(() => driver.close());
    const vm = await startVm(driver, spec);
    undo.use(vm);
    const { stdout: inside } = await runCommand('ip', ['netns', 'exec', netns, 'readlink', '/proc/self/ns/net']);
    assert.equal(await readlink(`/proc/${vm.handle.process.pid}/ns/net`), inside.trim());
    assert.notEqual(inside.trim(), await readlink('/proc/self/ns/net'));
  });

  test('QEMU is in its jail: no privilege, a filter on its system calls, nothing of the host but its own files', async () => {
    await using driver = makeDriver();
    const spec = await bench.createSpec('idle');
    await using vm = await startVm(driver, spec);
    const { pid } = vm.handle.process;
    const status = await readFile(`/proc/${pid}/status`, 'utf8');
    assert.match(status, new RegExp(`^Uid:\\t${spec.userId}\\t${spec.userId}\\t`, 'm'));
    assert.match(status, /^CapEff:\t0+$/m);
    assert.match(status, /^NoNewPrivs:\t1$/m);
    assert.match(status, /^Seccomp:\t2$/m);
    for (const namespace of ['mnt', 'pid', 'ipc', 'uts', 'cgroup'])
      assert.notEqual(await readlink(`/proc/${pid}/ns/${namespace}`), await readlink(`/proc/self/ns/${namespace}`));
    const places = new Set(
      [spec.memoryPath, spec.runDir, spec.kernelPath, JAILED_PRELOAD].map((path) => path.split('/')[1]),
    );
    assert.deepEqual(
      (await readdir(`/proc/${pid}/root`)).sort(),
      [...new Set(['dev', 'lib', 'lib64', 'usr', ...places])].sort((a = '', b = '') => (a < b ? -1 : 1)),
    );
    assert.deepEqual((await readdir(`/proc/${pid}/root/dev`)).sort(), ['null', 'urandom']);
    assert.deepEqual((await readdir(`/proc/${pid}/root/usr/bin`)).sort(), ['qemu-system-x86_64', 'setpriv']);
  });

  test('no descriptor of QEMU lets it write to the memory image, which others share', async () => {
    await using driver = makeDriver();
    const spec = await bench.createSpec('idle');
    await using vm = await startVm(driver, spec);
    const { pid } = vm.handle.process;
    const modes: string[] = [];
    for (const descriptor of await readdir(`/proc/${pid}/fd`)) {
      if ((await readlink(`/proc/${pid}/fd/${descriptor}`)) !== spec.memoryPath) continue;
      const flags = /^flags:\t(\d+)$/m.exec(await readFile(`/proc/${pid}/fdinfo/${descriptor}`, 'utf8'))?.[1] ?? '';
      modes.push(flags.at(-1) ?? '');
    }
    // O_RDONLY
    assert.deepEqual(modes, ['0']);
    const { uid, mode } = await stat(spec.memoryPath);
    assert.deepEqual([uid, mode & 0o777], [0, 0o444]);
  });

  test('a missing namespace is a clear error', async () => {
    await using driver = makeDriver();
    const network = { netnsName: `nbt-${bench.instance}-none`, tapName: 'tap0', guestMac: '02:fc:00:00:00:05' };
    await assert.rejects(driver.start(await bench.createSpec('idle', { network })), {
      code: 'internal',
      message: /No such file or directory/,
    });
  });

  test('paths may hold commas, spaces and quotes', async () => {
    const folder = join(bench.folder, 'a, "b"=c');
    await mkdir(folder);
    const path = join(folder, 'disk,1.raw');
    await writeFile(path, Buffer.alloc(4096));
    const runDir = join(bench.runRoot, 'odd,name ');
    await mkdir(runDir);
    await using driver = makeDriver();
    const disks = [{ path, format: 'raw', readOnly: true }] as const;
    const spec = await bench.createSpec('idle', { disks, runDir, consolePath: join(folder, 'console,log') });
    await using vm = await startVm(driver, spec);
    await using second = makeDriver();
    await driver.close();
    assert.equal((await second.status(vm.handle)).state, 'running');
  });

  test('what is missing is named before anything starts', async () => {
    await using driver = makeDriver();
    const missing = join(bench.folder, 'no-such-file');
    for (const overrides of [
      { kernelPath: missing },
      { initrdPath: missing },
      { disks: [{ path: missing, format: 'raw', readOnly: true }] as const },
    ]) {
      const spec = await bench.createSpec('idle', overrides);
      await assert.rejects(driver.start(spec), { code: 'not_set_up', message: /no-such-file/ });
    }
    const deep = join(bench.runRoot, 'x'.repeat(100));
    await mkdir(deep);
    await assert.rejects(driver.start(await bench.createSpec('idle', { runDir: deep })), {
      code: 'not_set_up',
      message: /unix socket/,
    });
  });

  test('QEMU takes the arguments for KVM as well', async () => {
    // Without KVM the same devices are given to TCG; the guest is not started, so its machine type does not matter.
    const spec = await bench.createSpec();
    const args = bootArguments(spec, { kind: 'kvm', cpuModel: 'max' }).map((word) => (word === 'kvm' ? 'tcg' : word));
    assert.ok(args.includes('tcg'));
    const files = qemuRunFiles(spec.runDir);
    await mkdir(files.controlDir);
    const { identity, exited } = await launchDetached({
      command: ['qemu-system-x86_64', ...args, '-S'],
      cgroup: undefined,
      netnsName: undefined,
      jail: undefined,
      logPath: files.log,
      env: { PATH: process.env.PATH ?? '' },
    });
    try {
      let ended = false;
      void exited.then(() => {
        ended = true;
      });
      await until(async () => ended || (await stat(files.qmpSocket).catch(() => undefined)) !== undefined);
      assert.equal(await readFile(files.log, 'utf8'), '');
      const qmp = await QmpClient.connect(files.qmpSocket, { deadlineMs: LIMIT_MS });
      assert.deepEqual(await qmp.execute('query-kvm', undefined, { deadlineMs: LIMIT_MS }), {
        enabled: false,
        present: true,
      });
      qmp.close();
    } finally {
      await endProcess(identity, { graceMs: 0 });
    }
  });
});

async function endOf(driver: VmDriver, handle: VmHandle): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const timer = setTimeout(() => reject(new Error('the VM did not end')), LIMIT_MS);
  const undo = driver.onExit(handle, resolve);
  return promise.finally(() => {
    clearTimeout(timer);
    undo();
  });
}

async function until(condition: () => Promise<boolean>): Promise<void> {
  const endsAt = performance.now() + LIMIT_MS;
  while (!(await condition())) {
    assert.ok(performance.now() < endsAt, 'what was waited for did not come');
    await sleep(20);
  }
}
