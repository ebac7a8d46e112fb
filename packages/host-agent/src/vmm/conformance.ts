import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readdir } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { NestboxError } from '@nestbox/contract';
import { isProcessAlive, readProcessIdentity } from '@nestbox/kit';
import type { BootWatchdog } from './boot-watchdog.ts';
import { CgroupTree } from './cgroup/cgroup.ts';
import { type ConformanceDriver, createConformanceDriver } from './conformance-drivers.ts';
import { describeSnapshots } from './conformance-snapshots.ts';
import { rejectsWith } from './conformance-support.ts';
import type { VmDriver, VmHandle, VmSpec } from './driver.ts';
import { findProcesses, readSessionId } from './processes.ts';

/** What a driver brings to the suite. */
export interface ConformanceBench {
  readonly driver: ConformanceDriver;
  /** A VM that shows its sign of life soon and then idles. Each call gives a new sandbox with its run folder made. */
  createSpec(): Promise<VmSpec>;
  /** A VM that runs and never shows its sign of life. */
  createSilentSpec(): Promise<VmSpec>;
  /** A VM whose VMM ends by itself while it starts. */
  createDoomedSpec(): Promise<VmSpec>;
  /** A driver that makes the next silent or doomed VM what it is, where the spec alone cannot. */
  readonly createDriver?: (nature: 'silent' | 'doomed', bootWatchdog: BootWatchdog) => VmDriver;
  /** True when the host's cgroups must hold the VM wherever this host has any. */
  readonly boundsVms: boolean;
  /** Removes all folders. */
  cleanUp(): Promise<void>;
}

/** What every driver must do. Each test ends what it started. */
export function describeDriverConformance(
  name: string,
  setUp: () => Promise<ConformanceBench>,
  options: { readonly skip?: string | undefined } = {},
): void {
  describe(`${name} driver`, { skip: options.skip ?? false }, () => {
    let bench: ConformanceBench;
    let driver: VmDriver;
    const open = (bootWatchdog?: BootWatchdog) =>
      createConformanceDriver(bootWatchdog === undefined ? bench.driver : { ...bench.driver, bootWatchdog });

    before(async () => {
      bench = await setUp();
      driver = open();
    });

    after(async () => {
      await driver.removeStrays([]);
      await driver.close();
      const last = open();
      await last.removeStrays([]);
      await last.close();
      await bench.cleanUp();
    });

    /** A started VM that is destroyed when the test ends, however it ends. */
    async function startVm(with_: VmDriver = driver, spec?: VmSpec) {
      const used = spec ?? (await bench.createSpec());
      const handle = await with_.start(used);
      return { spec: used, handle, [Symbol.asyncDispose]: () => with_.destroy(handle) };
    }

    /** A driver that is closed when the test ends. */
    function another(made: VmDriver = open()) {
      return { driver: made, [Symbol.asyncDispose]: () => made.close() };
    }

    const flawed = (nature: 'silent' | 'doomed', watchdog: BootWatchdog) =>
      bench.createDriver?.(nature, watchdog) ?? open(watchdog);

    /** Nothing of a VM is left: no process that names its run folder, no file in there, no cgroup. */
    async function assertNothingLeft(spec: VmSpec): Promise<void> {
      const names = (words: readonly string[]) => words.some((word) => word.includes(`${spec.runDir}/`));
      assert.deepEqual(await findProcesses('cmdline', names), []);
      const marks = (words: readonly string[]) => words.some((word) => word.endsWith(`=${spec.runDir}`));
      assert.deepEqual(await findProcesses('environ', marks), []);
      assert.deepEqual(await readdir(spec.runDir), []);
      const cgroups = await (await CgroupTree.open(bench.driver.instance)).list();
      assert.ok(!cgroups.some((cgroup) => cgroup.vmId === spec.vmId));
    }

    test('says what runs VMs here and why', async () => {
      const description = await driver.describe();
      assert.equal(description.vmm, driver.name);
      assert.notEqual(description.version, '');
      assert.match(description.reason, /\S/);
      assert.deepEqual(await driver.describe(), description);
    });

    test('starts a VM, which runs until it is destroyed and leaves nothing', async () => {
      const { spec, handle } = await startVm();
      assert.equal(handle.vmId, spec.vmId);
      assert.equal(handle.vmm, driver.name);
      assert.equal(handle.runDir, spec.runDir);
      assert.ok(isProcessAlive(handle.process));
      assert.deepEqual(await driver.status(handle), { state: 'running' });
      await driver.destroy(handle);
      assert.equal((await driver.status(handle)).state, 'gone');
      await assertNothingLeft(spec);
    });

    test('gives a handle that survives being written down as JSON', async () => {
      await using vm = await startVm();
      const copy: VmHandle = JSON.parse(JSON.stringify(vm.handle));
      assert.equal((await driver.status(copy)).state, 'running');
    });

    test('puts the VMM into a session of its own', async () => {
      await using vm = await startVm();
      assert.notEqual(readSessionId(vm.handle.process.pid), readSessionId(process.pid));
    });

    test('pauses and resumes, and doing it twice changes nothing', async () => {
      await using vm = await startVm();
      for (let round = 0; round < 2; round++) {
        await driver.pause(vm.handle);
        await driver.pause(vm.handle);
        assert.equal((await driver.status(vm.handle)).state, 'paused');
        await driver.resume(vm.handle);
        await driver.resume(vm.handle);
        assert.equal((await driver.status(vm.handle)).state, 'running');
      }
    });

    test('destroys a paused VM', async () => {
      const { spec, handle } = await startVm();
      await driver.pause(handle);
      await driver.destroy(handle);
      await assertNothingLeft(spec);
    });

    test('destroys what is gone, twice and at once, without complaint', async () => {
      const { spec, handle } = await startVm();
      await Promise.all([driver.destroy(handle), driver.destroy(handle)]);
      await driver.destroy(handle);
      await assertNothingLeft(spec);
    });

    test('answers vm_died to a pause or resume of a VM that is gone', async () => {
      const { handle } = await startVm();
      await driver.destroy(handle);
      await rejectsWith('vm_died', driver.pause(handle));
      await rejectsWith('vm_died', driver.resume(handle));
    });

    test('tells once when a VM of its own dies', async () => {
      await using vm = await startVm();
      using exit = exitOf(driver, vm.handle);
      process.kill(vm.handle.process.pid, 'SIGKILL');
      assert.match(await exit.reason, /SIGKILL/);
      const status = await driver.status(vm.handle);
      assert.ok(status.state === 'gone');
      assert.match(status.reason, /SIGKILL/);
      // A second listener comes too late to see it happen and is told all the same; the first is not told again.
      using late = exitOf(driver, vm.handle);
      await late.reason;
      assert.equal(exit.calls(), 1);
    });

    test('does not tell a listener that was taken back', async () => {
      await using vm = await startVm();
      using silent = exitOf(driver, vm.handle);
      silent.undo();
      using heard = exitOf(driver, vm.handle);
      process.kill(vm.handle.process.pid, 'SIGKILL');
      await heard.reason;
      assert.equal(silent.calls(), 0);
    });

    test('finds a VM again whose starter was killed, and hears of its end', async () => {
      const spec = await bench.createSpec();
      const handle = await startInProcessThatDies(bench.driver, spec);
      await using second = another();
      assert.equal((await second.driver.status(handle)).state, 'running');
      await second.driver.pause(handle);
      assert.equal((await second.driver.status(handle)).state, 'paused');
      await second.driver.resume(handle);
      using exit = exitOf(second.driver, handle);
      process.kill(handle.process.pid, 'SIGKILL');
      assert.match(await exit.reason, /\S/);
      assert.equal((await second.driver.status(handle)).state, 'gone');
      await second.driver.destroy(handle);
      await assertNothingLeft(spec);
    });

    test('destroys a VM whose starter was killed', async () => {
      const spec = await bench.createSpec();
      const handle = await startInProcessThatDies(bench.driver, spec);
      await using second = another();
      await second.driver.destroy(handle);
      await assertNothingLeft(spec);
    });

    test('lets go of its VMs when it is closed, and another driver takes them over', async () => {
      const first = open();
      const { handle, spec } = await startVm(first);
      using exit = exitOf(first, handle);
      await first.close();
      await using second = another();
      assert.equal((await second.driver.status(handle)).state, 'running');
      await second.driver.destroy(handle);
      assert.equal(exit.calls(), 0);
      await assertNothingLeft(spec);
    });

    test('leaves nothing of a VM whose VMM ends while it starts, and says what it said', async () => {
      const spec = await bench.createDoomedSpec();
      await using doomed = another(flawed('doomed', { firstSignMs: 60_000, retries: 0 }));
      const error = await rejectsWith('vm_died', doomed.driver.start(spec));
      assert.ok(error.message.length > 30, error.message);
      await assertNothingLeft(spec);
    });

    test('gives up a guest that never shows life, after the retries, and leaves nothing', async () => {
      const spec = await bench.createSilentSpec();
      await using silent = another(flawed('silent', { firstSignMs: 150, retries: 2 }));
      const error = await rejectsWith('boot_timeout', silent.driver.start(spec));
      assert.match(error.message, /console/);
      assert.equal(silent.driver.bootRetries, 2);
      await assertNothingLeft(spec);
    });

    test('leaves nothing when a start is aborted', async () => {
      const spec = await bench.createSilentSpec();
      await using silent = another(flawed('silent', { firstSignMs: 60_000, retries: 0 }));
      const abort = new AbortController();
      const started = silent.driver.start(spec, abort.signal);
      await until(async () => (await processesOf(spec)) > 0);
      abort.abort();
      await rejectsWith('deadline_exceeded', started);
      await assertNothingLeft(spec);
    });

    test('throws the reason of an abort when it is an error of ours', async () => {
      const reason = new NestboxError('sandbox_stopping', 'The sandbox was killed while it started.');
      const spec = await bench.createSpec();
      await rejectsWith('sandbox_stopping', driver.start(spec, AbortSignal.abort(reason)));
      await assertNothingLeft(spec);
    });

    test('runs two VMs at once that do not disturb each other', async () => {
      const specs = [await bench.createSpec(), await bench.createSpec()] as const;
      const [first, second] = await Promise.all([startVm(driver, specs[0]), startVm(driver, specs[1])]);
      await using _ = second;
      await driver.pause(second.handle);
      await driver.destroy(first.handle);
      assert.equal((await driver.status(first.handle)).state, 'gone');
      assert.equal((await driver.status(second.handle)).state, 'paused');
    });

    test('ends VMs that nobody knows and spares the others', async () => {
      const straySpec = await bench.createSpec();
      const stray = await startInProcessThatDies(bench.driver, straySpec);
      const knownSpec = await bench.createSpec();
      const known = await startInProcessThatDies(bench.driver, knownSpec);
      await using own = await startVm();
      await using second = another();
      const ended = await driver.removeStrays([known]);
      assert.ok(ended.includes(stray.process.pid));
      assert.ok(!isProcessAlive(stray.process));
      assert.equal((await second.driver.status(known)).state, 'running');
      assert.ok(isProcessAlive(own.handle.process));
      await assertNothingLeft(straySpec);
      await second.driver.destroy(known);
    });

    test('takes a pid that somebody else has by now for a VM that is gone', async () => {
      await using vm = await startVm();
      const other = spawn('sleep', ['1000'], { stdio: 'ignore' });
      try {
        const identity = readProcessIdentity(other.pid ?? 0);
        assert.ok(identity);
        const bystanders: VmHandle[] = [
          { ...vm.handle, process: identity },
          { ...vm.handle, process: { ...vm.handle.process, startTicks: vm.handle.process.startTicks + 1 } },
        ];
        for (const handle of bystanders) {
          assert.equal((await driver.status(handle)).state, 'gone');
          await rejectsWith('vm_died', driver.pause(handle));
          await driver.destroy(handle);
        }
        assert.ok(isProcessAlive(identity));
        assert.equal((await driver.status(vm.handle)).state, 'running');
      } finally {
        other.kill('SIGKILL');
      }
    });

    test('harms nobody by a damaged handle', async () => {
      const init = readProcessIdentity(1);
      assert.ok(init);
      const here = readProcessIdentity(process.pid);
      assert.ok(here);
      const base = { vmId: 'damaged', vmm: driver.name, cgroup: '../../..' } as const;
      const damaged: VmHandle[] = [
        { ...base, process: init, runDir: '/etc' },
        { ...base, process: here, runDir: `${bench.driver.runRoot}/../../etc` },
        { ...base, process: { pid: -1, startTicks: 0 }, runDir: bench.driver.runRoot },
        { ...base, process: { pid: 0, startTicks: Number.NaN }, runDir: '' },
      ];
      for (const handle of damaged) {
        assert.equal((await driver.status(handle)).state, 'gone');
        await driver.destroy(handle);
        using exit = exitOf(driver, handle);
        await exit.reason;
      }
    });

    describeSnapshots({
      createSpec: () => bench.createSpec(),
      runRoot: () => bench.driver.runRoot,
      driver: () => driver,
      another,
      assertNothingLeft,
    });

    test('bounds the VM by a cgroup from its first moment', async (t) => {
      const tree = await CgroupTree.open(bench.driver.instance);
      if (!bench.boundsVms || tree.support.version === undefined) {
        t.skip(bench.boundsVms ? tree.support.reason : 'this driver bounds nothing');
        return;
      }
      await using vm = await startVm();
      const cgroup = tree.find(vm.handle.cgroup, vm.spec.vmId);
      assert.ok(cgroup);
      assert.ok((await cgroup.pids()).includes(vm.handle.process.pid));
      const limits = await cgroup.readLimits();
      assert.ok(limits.memoryBytes >= vm.spec.memoryMib * 2 ** 20);
      assert.ok(limits.memoryBytes <= (vm.spec.memoryMib + 512) * 2 ** 20);
      assert.equal(limits.cpuCount, vm.spec.vcpuCount);
      assert.ok(limits.pidCount <= 256);
    });
  });
}

/** Listens for the end of a VM. The time limit only ends a test that would hang. */
function exitOf(driver: VmDriver, handle: VmHandle) {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const timer = setTimeout(() => reject(new Error('no notice of the exit within 20 s')), 20_000);
  promise.catch(() => undefined);
  let calls = 0;
  const undo = driver.onExit(handle, (reason) => {
    calls++;
    clearTimeout(timer);
    resolve(reason);
  });
  const cancel = () => {
    clearTimeout(timer);
    undo();
  };
  return { reason: promise, calls: () => calls, undo: cancel, [Symbol.dispose]: cancel };
}

/** A host agent that starts a VM and is killed right after. */
async function startInProcessThatDies(driver: ConformanceDriver, spec: VmSpec): Promise<VmHandle> {
  const script = fileURLToPath(new URL('./conformance-starter.ts', import.meta.url));
  const starter = spawn(process.execPath, [script, JSON.stringify({ driver, spec })], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = new Promise((done) => starter.once('exit', done));
  try {
    for await (const line of createInterface({ input: starter.stdout })) {
      const handle: VmHandle = JSON.parse(line);
      return handle;
    }
    throw new Error('the process that should start a VM ended without one');
  } finally {
    starter.kill('SIGKILL');
    await exited;
  }
}

async function processesOf(spec: VmSpec): Promise<number> {
  const inCommand = await findProcesses('cmdline', (words) => words.some((word) => word.includes(`${spec.runDir}/`)));
  const inEnvironment = await findProcesses('environ', (words) =>
    words.some((word) => word.endsWith(`=${spec.runDir}`)),
  );
  return inCommand.length + inEnvironment.length;
}

async function until(condition: () => Promise<boolean>): Promise<void> {
  const endsAt = performance.now() + 20_000;
  while (!(await condition())) {
    assert.ok(performance.now() < endsAt, 'what was waited for did not come within 20 s');
    await sleep(10);
  }
}
