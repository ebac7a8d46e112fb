import assert from 'node:assert/strict';
import { mkdir, readdir, readFile, readlink, rm, stat, symlink, truncate, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { NestboxError } from '@nestbox/contract';
import { isProcessAlive, runCommand } from '@nestbox/kit';
import { CgroupTree } from '../cgroup/cgroup.ts';
import { rejectsWith } from '../conformance-support.ts';
import type { VmDriver, VmHandle, VmMachine, VmSpec } from '../driver.ts';
import { findProcesses } from '../processes.ts';
import { createStandInCloudHypervisor } from '../testing/cloud-hypervisor-bench.ts';
import type { StandInPlan } from '../testing/stand-in/plan.ts';
import { createStandInBench, type StandInBench, whyNoDescription } from '../testing/stand-in-bench.ts';
import type { CloudHypervisorDriverOptions } from './cloud-hypervisor-driver.ts';
import { cloudHypervisorRunFiles } from './run-files.ts';
import { encodeDevices } from './saved-devices.ts';

const DEADLINES = { socketMs: 3000, callMs: 400 };
/** A stand-in takes its time to read all memory. */
const PATIENT = { socketMs: 5000, callMs: 10_000 };
const CREATE = 'PUT /api/v1/vm.create';
const BOOT = 'PUT /api/v1/vm.boot';
const RESTORE = 'PUT /api/v1/vm.restore';

describe('Cloud Hypervisor driver, when something goes wrong', {
  skip: whyNoDescription('cloud-hypervisor') ?? false,
}, () => {
  let bench: StandInBench;
  const drivers: VmDriver[] = [];

  before(async () => {
    bench = await createStandInBench('cloud-hypervisor');
  });

  after(async () => {
    for (const driver of drivers) {
      await driver.removeStrays([]);
      await driver.close();
    }
    await bench.remove();
  });

  function driverFor(planPath: string, options: Partial<CloudHypervisorDriverOptions> = {}): VmDriver {
    const { runRoot, instance } = bench;
    const driver = createStandInCloudHypervisor({ runRoot, instance, planPath }, { deadlines: DEADLINES, ...options });
    drivers.push(driver);
    return driver;
  }

  /** No process, no file besides those that were there, no cgroup. */
  async function assertNothingLeft(machine: VmMachine, filesBefore: readonly string[]): Promise<void> {
    const names = (words: readonly string[]) => words.some((word) => word.includes(`${machine.runDir}/`));
    assert.deepEqual(await findProcesses('cmdline', names), []);
    assert.deepEqual(await readdir(machine.runDir), []);
    const cgroups = await (await CgroupTree.open(bench.instance)).list();
    assert.ok(!cgroups.some((cgroup) => cgroup.vmId === machine.vmId));
    const home = await readdir(dirname(machine.consolePath));
    assert.deepEqual(new Set(home.filter((name) => name !== 'console.log')), new Set(filesBefore));
  }

  async function failedStart(plan: Partial<StandInPlan>): Promise<NestboxError> {
    const spec = await bench.createSpec();
    const files = await readdir(dirname(spec.consolePath));
    const driver = driverFor(await bench.writePlan(plan));
    const error = await driver.start(spec).then(
      () => assert.fail('it started'),
      (thrown: unknown) => thrown,
    );
    assert.ok(error instanceof NestboxError, String(error));
    await assertNothingLeft(spec, files);
    return error;
  }

  const endOf = (driver: VmDriver, handle: VmHandle) =>
    new Promise<string>((resolve) => {
      driver.onExit(handle, resolve);
    });

  function filesOf(spec: VmSpec, name: string) {
    const home = dirname(spec.memoryPath);
    return { devicesPath: join(home, `${name}.d`), pagesPath: join(home, `${name}.p`) };
  }

  for (const call of [CREATE, BOOT]) {
    test(`${call}: a refusal ends the start, with Cloud Hypervisor's words`, async () => {
      const { message } = await failedStart({ failures: [{ call, how: 'fault' }] });
      assert.match(message, new RegExp(`${call} is refused as it was told`));
    });

    test(`${call}: a process that ends there is told with its exit code and its last words`, async () => {
      const error = await failedStart({ failures: [{ call, how: 'die' }] });
      assert.equal(error.code, 'vm_died');
      assert.match(error.message, /exit code 1/);
      assert.match(error.message, /it dies at/);
    });
  }

  for (const [how, code] of [
    ['hang', 'sandbox_unreachable'],
    ['slow', 'sandbox_unreachable'],
    ['truncate', 'sandbox_unreachable'],
    ['die-after', 'vm_died'],
  ] as const)
    test(`an answer that goes wrong (${how}) ends the start`, async () => {
      const error = await failedStart({ failures: [{ call: BOOT, how, delayMs: 2000 }] });
      assert.equal(error.code, code, error.message);
    });

  test('an answer that is slow, but within its time, is waited for', async () => {
    const failures = [{ call: CREATE, how: 'slow' as const, delayMs: 100 }];
    const driver = driverFor(await bench.writePlan({ failures }));
    const handle = await driver.start(await bench.createSpec());
    assert.deepEqual(await driver.status(handle), { state: 'running' });
    await driver.destroy(handle);
  });

  test('a socket that never appears is given up', async () => {
    assert.match((await failedStart({ noSocket: true })).message, /API socket/);
  });

  test('a guest that restarts while it boots ends the start, since Cloud Hypervisor would start it for ever', async () => {
    const error = await failedStart({ silent: true, failures: [{ call: BOOT, how: 'restart' }] });
    assert.equal(error.code, 'vm_died');
    assert.match(error.message, /restarted or its kernel panicked/);
  });

  test('a guest that restarts ends its VM, also one that another driver started; one that shuts down does too', async () => {
    for (const [how, words] of [
      ['restart', /restarted or its kernel panicked/],
      ['shut-down', /\S/],
    ] as const) {
      const planPath = await bench.writePlan();
      const starter = driverFor(planPath);
      const spec = await bench.createSpec();
      const handle = await starter.start(spec);
      await starter.pause(handle);
      await starter.close();
      const driver = driverFor(planPath);
      const told = endOf(driver, handle);
      await bench.writePlan({ failures: [{ call: 'PUT /api/v1/vm.resume', how }] }, dirname(planPath));
      await driver.resume(handle);
      assert.match(await told, words);
      assert.ok(!isProcessAlive(handle.process));
      await driver.destroy(handle);
      await assertNothingLeft(spec, ['memory', 'root.raw']);
    }
  });

  test('a VM whose API hangs later is unreachable, and one that dies in a call has died', async () => {
    const planPath = await bench.writePlan();
    const driver = driverFor(planPath);
    const handle = await driver.start(await bench.createSpec());
    await bench.writePlan({ failures: [{ call: 'GET /api/v1/vm.info', how: 'hang' }] }, dirname(planPath));
    await rejectsWith('sandbox_unreachable', driver.status(handle));
    await bench.writePlan({ failures: [{ call: 'PUT /api/v1/vm.pause', how: 'die' }] }, dirname(planPath));
    await rejectsWith('vm_died', driver.pause(handle));
    assert.equal((await driver.status(handle)).state, 'gone');
    await driver.destroy(handle);
  });

  test('what cannot start is refused before anything is begun', async () => {
    const spec = await bench.createSpec();
    const refused: [Partial<VmSpec>, NestboxError['code'], RegExp][] = [
      [{ runDir: join(bench.runRoot, 'x'.repeat(100)) }, 'not_set_up', /107 bytes/],
      [{ vcpuCount: 255 }, 'invalid_request', /1 to 254/],
      [{ memoryMib: 0 }, 'invalid_request', /0 MiB/],
      [{ kernelPath: '/nonexistent' }, 'not_set_up', /nonexistent/],
      [{ kernelPath: spec.initrdPath }, 'not_set_up', /neither a vmlinux nor a bzImage/],
      [{ disks: [{ path: '/nonexistent', format: 'raw', readOnly: false }] }, 'not_set_up', /nonexistent/],
      [{ disks: [{ path: spec.memoryPath, format: 'qcow2', readOnly: false }] }, 'not_supported', /raw disks/],
    ];
    const planPath = await bench.writePlan();
    const driver = driverFor(planPath);
    for (const [overrides, code, words] of refused)
      assert.match((await rejectsWith(code, driver.start({ ...spec, ...overrides }))).message, words);
    const noDevice = driverFor(planPath, { kvmDevice: '/nonexistent/kvm' });
    assert.match((await rejectsWith('not_set_up', noDevice.start(spec))).message, /nonexistent\/kvm/);
    const noKvm = driverFor(planPath, { askKvm: async () => ({ works: false, reason: 'it only emulates' }) });
    assert.match((await rejectsWith('not_set_up', noKvm.start(spec))).message, /it only emulates/);
    const { accelerator, reason } = await noKvm.describe();
    assert.deepEqual([accelerator, /it only emulates/.test(reason)], ['none', true]);
    await rejectsWith('not_set_up', driverFor(planPath, { program: '/nonexistent/cloud-hypervisor' }).start(spec));
    await rejectsWith('not_supported', driverFor(planPath, { program: '/bin/echo' }).start(spec));
    for (const version of ['49.0', '53.0'])
      await rejectsWith('not_supported', driverFor(await bench.writePlan({ version })).start(spec));
    const onDemand = { memoryRestore: 'on-demand', faultDevice: '/dev/zero' } as const;
    const old = driverFor(await bench.writePlan({ version: '51.1' }), onDemand);
    assert.match((await rejectsWith('not_supported', old.start(spec))).message, /on demand/);
    const closed = driverFor(planPath, { memoryRestore: 'on-demand', faultDevice: '/nonexistent/uffd' });
    assert.match((await rejectsWith('not_set_up', closed.start(spec))).message, /nonexistent\/uffd/);
    assert.deepEqual(await bench.journal(planPath), []);
    await assertNothingLeft(spec, ['memory', 'root.raw']);
  });

  test('the VM is made as it is to be, in the network of its sandbox, in a jail with its own files alone', async (t) => {
    const netnsName = `nbch-${bench.instance}`;
    await runCommand('ip', ['netns', 'add', netnsName]);
    t.after(() => runCommand('ip', ['netns', 'delete', netnsName]));
    await runCommand('ip', ['-n', netnsName, 'tuntap', 'add', 'tap0', 'mode', 'tap']);
    const planPath = await bench.writePlan();
    const driver = driverFor(planPath, { deadlines: PATIENT });
    const made = await bench.createSpec();
    const spec = { ...made, network: { ...made.network, netnsName } };
    const handle = await driver.start(spec);
    const journal = await bench.journal(planPath);
    assert.deepEqual(
      journal.map(({ path, status }) => `${path} ${status}`),
      ['/api/v1/vm.create 204', '/api/v1/vm.boot 204'],
    );
    const config = JSON.stringify(journal[0]?.body);
    for (const words of ['"/vm/kernel"', 'nestbox-test=1', '"/vm/disk0"', '"image_type":"Raw"', '"size":209715200'])
      assert.ok(config.includes(words), words);
    assert.match(await readFile(spec.consolePath, 'utf8'), /^\[nestbox: boot\]\nnestbox: initrd/);
    const { pid } = handle.process;
    const status = await readFile(`/proc/${pid}/status`, 'utf8');
    assert.match(status, new RegExp(`^Uid:\\t${spec.userId}\\t${spec.userId}\\t`, 'm'));
    assert.match(status, /^CapEff:\t0+$/m);
    assert.match(status, /^NoNewPrivs:\t1$/m);
    for (const namespace of ['mnt', 'pid', 'ipc', 'uts', 'cgroup', 'net'])
      assert.notEqual(await readlink(`/proc/${pid}/ns/${namespace}`), await readlink(`/proc/self/ns/${namespace}`));
    assert.deepEqual((await readdir(`/proc/${pid}/root/vm`)).sort(), ['disk0', 'initrd', 'kernel', 'log', 'snapshot']);
    assert.deepEqual(await readdir(`/proc/${pid}/root/sys/class/net`), ['tap0']);
    const { log, controlDir } = cloudHypervisorRunFiles(spec.runDir);
    for (const path of [log, controlDir]) assert.equal((await stat(path)).uid, spec.userId);
    // A TAP has an address of its own, which a restored VM must not be given again.
    const state = filesOf(spec, 'state');
    await driver.pause(handle);
    await driver.save(handle, spec.memoryPath, state);
    await driver.destroy(handle);
    const restored = await driver.restore(spec, state);
    assert.deepEqual(await driver.status(restored), { state: 'paused' });
    await driver.destroy(restored);
    await assertNothingLeft(spec, ['memory', 'root.raw', 'state.d', 'state.p']);
  });

  for (const memoryRestore of ['eager', 'on-demand'] as const)
    test(`a state has the memory of the moment, over saves, a restore (${memoryRestore}) and a save of that`, async () => {
      const planPath = await bench.writePlan({ preloaded: true });
      const options = { memoryRestore, faultDevice: '/dev/zero', deadlines: PATIENT };
      const driver = driverFor(planPath, options);
      assert.equal(driver.features.needsMemoryPreload, memoryRestore === 'on-demand');
      const memoryAfter = async (verb: string) =>
        (await bench.journal(planPath)).filter(({ path }) => path.endsWith(`vm.${verb}`)).at(-1)?.memory;
      const spec = await bench.createSpec();
      const handle = await driver.start(spec);
      let pages = 0;
      for (const name of ['first', 'second']) {
        await driver.pause(handle);
        const { changedPages } = await driver.save(handle, spec.memoryPath, filesOf(spec, name));
        assert.ok(changedPages > pages, 'told from the image, not from the last state');
        pages = changedPages;
        await driver.resume(handle);
      }
      const saved = await memoryAfter('snapshot');
      await driver.destroy(handle);

      const next = driverFor(planPath, options);
      const restored = await next.restore(spec, filesOf(spec, 'second'));
      assert.equal(await memoryAfter('restore'), saved);
      const mode = (await bench.journal(planPath)).at(-1)?.body;
      assert.equal(JSON.stringify(mode).includes('OnDemand'), memoryRestore === 'on-demand');
      await next.resume(restored);
      await next.pause(restored);
      await next.save(restored, spec.memoryPath, filesOf(spec, 'third'));
      const savedAgain = await memoryAfter('snapshot');
      assert.notEqual(saved, savedAgain);
      await next.destroy(restored);
      const again = await next.restore(spec, filesOf(spec, 'third'));
      assert.equal(await memoryAfter('restore'), savedAgain);
      await next.destroy(again);
      const states = ['first', 'second', 'third'].flatMap((name) => [`${name}.d`, `${name}.p`]);
      await assertNothingLeft(spec, ['memory', 'root.raw', ...states]);
    });

  test('a restore that goes wrong leaves nothing; a state of another version, processor or machine is refused', async () => {
    const planPath = await bench.writePlan();
    const driver = driverFor(planPath);
    const spec = await bench.createSpec();
    const state = filesOf(spec, 'state');
    const handle = await driver.start(spec);
    await driver.pause(handle);
    await driver.save(handle, spec.memoryPath, state);
    await driver.destroy(handle, { graceful: false });
    const files = ['memory', 'root.raw', 'state.d', 'state.p'];
    for (const how of ['fault', 'die', 'die-after', 'hang', 'truncate'] as const) {
      const failing = driverFor(await bench.writePlan({ failures: [{ call: RESTORE, how }] }));
      const error = await failing.restore(spec, state).catch((thrown: unknown) => thrown);
      assert.ok(error instanceof NestboxError, String(error));
      if (how === 'fault') assert.match(error.message, /refused as it was told/);
      await assertNothingLeft(spec, files);
    }
    const otherPlan = await bench.writePlan({ version: '51.1' });
    const other = driverFor(otherPlan);
    assert.notEqual(await other.snapshotMachine(), await driver.snapshotMachine());
    assert.match((await rejectsWith('snapshot_damaged', other.restore(spec, state))).message, /version 52.0/);
    assert.deepEqual(await bench.journal(otherPlan), []);
    await rejectsWith('snapshot_damaged', driver.restore({ ...spec, vcpuCount: 2 }, state));
    const { version, config, state: devices } = JSON.parse(await readFile(state.devicesPath, 'utf8'));
    await writeFile(state.devicesPath, encodeDevices({ version, config, state: devices, processor: 'another' }));
    assert.match((await rejectsWith('snapshot_damaged', driver.restore(spec, state))).message, /processor another/);
    await assertNothingLeft(spec, files);
  });

  test('what a crash in the middle of a restore leaves is gone with the next look for strays', async () => {
    const spec = await bench.createSpec();
    const links = cloudHypervisorRunFiles(spec.runDir);
    for (const what of ['config', 'state', 'memory'] as const) {
      const path = join(dirname(spec.memoryPath), `${spec.vmId}.${what}`);
      await writeFile(path, 'half');
      await symlink(path, links[what]);
    }
    const folder = join(dirname(spec.memoryPath), `${spec.vmId}.snapshot`);
    await mkdir(folder);
    await writeFile(join(folder, 'memory-ranges'), 'half');
    await symlink(folder, links.snapshot);
    await driverFor(await bench.writePlan()).removeStrays([]);
    await assertNothingLeft(spec, ['memory', 'root.raw']);
  });

  test('a link that a Cloud Hypervisor leaves in place of what it saves is not followed', async () => {
    const secret = join(bench.folder, 'of-root');
    await writeFile(secret, '', { mode: 0o600 });
    const spec = await bench.createSpec();
    await truncate(secret, spec.memoryMib * 2 ** 20);
    const driver = driverFor(await bench.writePlan({ memoryLink: secret }));
    const handle = await driver.start(spec);
    await driver.pause(handle);
    const state = filesOf(spec, 'state');
    await rejectsWith('internal', driver.save(handle, spec.memoryPath, state));
    for (const path of [state.devicesPath, state.pagesPath]) await assert.rejects(stat(path), { code: 'ENOENT' });
    await driver.destroy(handle);
    await assertNothingLeft(spec, ['memory', 'root.raw']);
    assert.equal((await stat(secret)).uid, 0);
  });

  test('a save that fails leaves no file and a VM that can go on', async () => {
    const planPath = await bench.writePlan();
    const driver = driverFor(planPath);
    const spec = await bench.createSpec();
    const state = filesOf(spec, 'state');
    const handle = await driver.start(spec);
    // It runs: Cloud Hypervisor refuses.
    assert.match((await rejectsWith('internal', driver.save(handle, spec.memoryPath, state))).message, /not paused/);
    await driver.pause(handle);
    await mkdir(state.pagesPath);
    await rejectsWith('internal', driver.save(handle, spec.memoryPath, state));
    await rm(state.pagesPath, { recursive: true });
    await assert.rejects(stat(state.devicesPath), { code: 'ENOENT' });
    assert.deepEqual(await readdir(join(dirname(spec.memoryPath), `${spec.vmId}.snapshot`)), []);
    await driver.save(handle, spec.memoryPath, state);
    await driver.resume(handle);
    assert.deepEqual(await driver.status(handle), { state: 'running' });
    await driver.destroy(handle);
    await truncate(state.pagesPath, 10);
    await rejectsWith('snapshot_damaged', driver.restore(spec, state));
  });
});
