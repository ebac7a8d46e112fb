import assert from 'node:assert/strict';
import { mkdir, readdir, readFile, rm, stat, symlink, truncate, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { NestboxError } from '@nestbox/contract';
import { runCommand } from '@nestbox/kit';
import { readPageTable } from '../../memory/page-file.ts';
import { CgroupTree } from '../cgroup/cgroup.ts';
import { rejectsWith } from '../conformance-support.ts';
import type { VmDriver, VmMachine, VmSpec } from '../driver.ts';
import { findProcesses } from '../processes.ts';
import { createStandInFirecracker } from '../testing/firecracker-bench.ts';
import type { StandInPlan } from '../testing/stand-in/plan.ts';
import { createStandInBench, type StandInBench, whyNoDescription } from '../testing/stand-in-bench.ts';
import type { FirecrackerDriverOptions } from './firecracker-driver.ts';
import { firecrackerRunFiles } from './run-files.ts';

const DEADLINES = { socketMs: 3000, callMs: 400 };

describe('Firecracker driver, when something goes wrong', { skip: whyNoDescription('firecracker') ?? false }, () => {
  let bench: StandInBench;
  const drivers: VmDriver[] = [];

  before(async () => {
    bench = await createStandInBench('firecracker');
  });

  after(async () => {
    for (const driver of drivers) {
      await driver.removeStrays([]);
      await driver.close();
    }
    await bench.remove();
  });

  function driverFor(planPath: string, options: Partial<FirecrackerDriverOptions> = {}): VmDriver {
    const { runRoot, instance } = bench;
    const driver = createStandInFirecracker({ runRoot, instance, planPath }, { deadlines: DEADLINES, ...options });
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

  async function failedStart(plan: Partial<StandInPlan>, spec?: VmSpec): Promise<NestboxError> {
    const used = spec ?? (await bench.createSpec());
    const files = await readdir(dirname(used.consolePath));
    const driver = driverFor(await bench.writePlan(plan));
    const error = await driver.start(used).then(
      () => assert.fail('it started'),
      (thrown: unknown) => thrown,
    );
    assert.ok(error instanceof NestboxError, String(error));
    await assertNothingLeft(used, files);
    return error;
  }

  const BOOT_CALLS = [
    ...['PUT /logger', 'PUT /metrics', 'PUT /boot-source', 'PUT /drives/rootfs', 'PUT /machine-config'],
    ...['PUT /entropy', 'PUT /balloon', 'PUT /actions'],
  ];

  for (const call of BOOT_CALLS) {
    test(`${call}: a refusal ends the start, with Firecracker's words`, async () => {
      const { message } = await failedStart({ failures: [{ call, how: 'fault' }] });
      assert.match(message, new RegExp(`${call} is refused as it was told`));
    });

    test(`${call}: a process that ends there is told with its exit code`, async () => {
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
      const error = await failedStart({ failures: [{ call: 'PUT /actions', how, delayMs: 2000 }] });
      assert.equal(error.code, code, error.message);
    });

  test('an answer that is slow, but within its time, is waited for', async () => {
    const failures = [{ call: 'PUT /machine-config', how: 'slow' as const, delayMs: 100 }];
    const driver = driverFor(await bench.writePlan({ failures }));
    const handle = await driver.start(await bench.createSpec());
    assert.deepEqual(await driver.status(handle), { state: 'running' });
    await driver.destroy(handle);
  });

  test('a socket that never appears is given up', async () => {
    const error = await failedStart({ noSocket: true });
    assert.match(error.message, /API socket/);
  });

  test('a VM whose API hangs later is unreachable, and one that dies in a call has died', async () => {
    const planPath = await bench.writePlan();
    const driver = driverFor(planPath);
    const spec = await bench.createSpec();
    const handle = await driver.start(spec);
    await bench.writePlan({ failures: [{ call: 'GET /', how: 'hang' }] }, dirname(planPath));
    await rejectsWith('sandbox_unreachable', driver.status(handle));
    await bench.writePlan({ failures: [{ call: 'PATCH /vm', how: 'die' }] }, dirname(planPath));
    await rejectsWith('vm_died', driver.pause(handle));
    assert.equal((await driver.status(handle)).state, 'gone');
    await driver.destroy(handle);
  });

  test('what cannot start is refused before anything is begun', async () => {
    const spec = await bench.createSpec();
    const refused: [Partial<VmSpec>, NestboxError['code'], RegExp][] = [
      [{ runDir: join(bench.runRoot, 'x'.repeat(100)) }, 'not_set_up', /107 bytes/],
      [{ vcpuCount: 33 }, 'invalid_request', /1 to 32/],
      [{ vcpuCount: 0 }, 'invalid_request', /1 to 32/],
      [{ memoryMib: 0.5 }, 'invalid_request', /0.5 MiB/],
      [{ kernelPath: '/nonexistent' }, 'not_set_up', /nonexistent/],
      [{ kernelPath: spec.initrdPath }, 'not_set_up', /no uncompressed kernel/],
      [{ disks: [{ path: '/nonexistent', format: 'raw', readOnly: false }] }, 'not_set_up', /nonexistent/],
      [{ disks: [{ path: spec.memoryPath, format: 'qcow2', readOnly: false }] }, 'not_supported', /raw disks/],
    ];
    const planPath = await bench.writePlan();
    const driver = driverFor(planPath);
    for (const [overrides, code, words] of refused) {
      const error = await rejectsWith(code, driver.start({ ...spec, ...overrides }));
      assert.match(error.message, words);
    }
    const noDevice = driverFor(planPath, { kvmDevice: '/nonexistent/kvm' });
    assert.match((await rejectsWith('not_set_up', noDevice.start(spec))).message, /nonexistent\/kvm/);
    const noKvm = driverFor(planPath, { askKvm: async () => ({ works: false, reason: 'it only emulates' }) });
    assert.match((await rejectsWith('not_set_up', noKvm.start(spec))).message, /it only emulates/);
    const { accelerator, reason } = await noKvm.describe();
    assert.deepEqual([accelerator, /it only emulates/.test(reason)], ['none', true]);
    const noProgram = driverFor(planPath, { program: '/nonexistent/firecracker' });
    await rejectsWith('not_set_up', noProgram.start(spec));
    for (const version of ['1.13.1', '1.17.0', '2.0.0'])
      await rejectsWith('not_supported', driverFor(await bench.writePlan({ version })).start(spec));
    assert.deepEqual(await bench.journal(planPath), []);
    await assertNothingLeft(spec, ['memory', 'root.raw']);
  });

  test('calls come in their order, with the network limited; logs, metrics and console are collected', async (t) => {
    const netnsName = `nbfc-${bench.instance}`;
    await runCommand('ip', ['netns', 'add', netnsName]);
    t.after(() => runCommand('ip', ['netns', 'delete', netnsName]));
    await runCommand('ip', ['-n', netnsName, 'tuntap', 'add', 'tap0', 'mode', 'tap']);
    const planPath = await bench.writePlan();
    const driver = driverFor(planPath);
    const spec = await bench.createSpec();
    const handle = await driver.start({ ...spec, network: { ...spec.network, netnsName } });
    const journal = await bench.journal(planPath);
    assert.deepEqual(
      journal.map(({ path }) => path),
      [
        ...['/logger', '/metrics', '/boot-source', '/drives/rootfs', '/network-interfaces/eth0', '/machine-config'],
        ...['/mmds/config', '/entropy', '/balloon', '/actions', '/mmds'],
      ],
    );
    assert.ok(journal.every(({ status }) => status === 204));
    assert.match(JSON.stringify(journal[2]?.body), /"\/vm\/kernel".*nestbox-test=1/);
    assert.match(JSON.stringify(journal[3]?.body), /"path_on_host":"\/vm\/rootfs"/);
    assert.match(JSON.stringify(journal[4]?.body), /"size":209715200/);
    assert.match(await readFile(spec.consolePath, 'utf8'), /^\[nestbox: boot\]\nnestbox: initrd/);
    const { log, metrics, controlDir } = firecrackerRunFiles(spec.runDir);
    for (const path of [log, metrics, controlDir]) assert.equal((await stat(path)).uid, spec.userId);
    await driver.destroy(handle);
    await assertNothingLeft(spec, ['memory', 'root.raw']);
  });

  test('a state has the memory of the moment, over saves, a restore by another driver, and a save of that', async () => {
    const planPath = await bench.writePlan();
    const driver = driverFor(planPath);
    const spec = await bench.createSpec();
    const home = dirname(spec.memoryPath);
    const state = (name: string) => ({ devicesPath: join(home, `${name}.d`), pagesPath: join(home, `${name}.p`) });
    const handle = await driver.start(spec);
    let pages = 0;
    for (const name of ['first', 'second']) {
      await driver.pause(handle);
      const { changedPages } = await driver.save(handle, spec.memoryPath, state(name));
      assert.ok(changedPages > pages, 'told from the image, not from the last state');
      pages = changedPages;
      await driver.resume(handle);
    }
    const saved = (await bench.journal(planPath)).filter(({ path }) => path === '/snapshot/create').at(-1)?.memory;
    await driver.destroy(handle);

    const next = driverFor(planPath);
    const restored = await next.restore(spec, state('second'));
    const loaded = (await bench.journal(planPath)).at(-1);
    assert.deepEqual([loaded?.path, loaded?.memory], ['/snapshot/load', saved]);
    await next.resume(restored);
    await next.pause(restored);
    await next.save(restored, spec.memoryPath, state('third'));
    assert.ok(readPageTable(state('third').pagesPath, { hasPages: true }).pageCount >= pages);
    const savedAgain = (await bench.journal(planPath)).at(-1)?.memory;
    await next.destroy(restored);
    const again = await next.restore(spec, state('third'));
    assert.equal((await bench.journal(planPath)).at(-1)?.memory, savedAgain);
    await next.destroy(again);
    assert.notEqual(saved, savedAgain);
    await assertNothingLeft(spec, [
      'memory',
      'root.raw',
      ...['first', 'second', 'third'].flatMap((n) => [`${n}.d`, `${n}.p`]),
    ]);
  });

  test('a restore that goes wrong leaves nothing', async () => {
    const planPath = await bench.writePlan();
    const driver = driverFor(planPath);
    const spec = await bench.createSpec();
    const home = dirname(spec.memoryPath);
    const state = { devicesPath: join(home, 'd'), pagesPath: join(home, 'p') };
    const handle = await driver.start(spec);
    await driver.pause(handle);
    await driver.save(handle, spec.memoryPath, state);
    await driver.destroy(handle, { graceful: false });
    const files = ['memory', 'root.raw', 'd', 'p'];
    for (const how of ['fault', 'die', 'die-after', 'hang', 'truncate'] as const) {
      const failing = driverFor(await bench.writePlan({ failures: [{ call: 'PUT /snapshot/load', how }] }));
      await assert.rejects(failing.restore(spec, state), (error) => error instanceof NestboxError);
      await assertNothingLeft(spec, files);
    }
    const other = driverFor(await bench.writePlan({ version: '1.15.0' }));
    assert.notEqual(await other.snapshotMachine(), await driver.snapshotMachine());
    assert.match((await rejectsWith('snapshot_damaged', other.restore(spec, state))).message, /version/i);
    await assertNothingLeft(spec, files);
  });

  test('what a crash in the middle of a restore leaves is gone with the next look for strays', async () => {
    const spec = await bench.createSpec();
    const { memory, changes } = firecrackerRunFiles(spec.runDir);
    for (const [link, name] of [
      [memory, `${spec.vmId}.memory`],
      [changes, `${spec.vmId}.changes`],
    ] as const) {
      const path = join(dirname(spec.memoryPath), name);
      await writeFile(path, 'half');
      await symlink(path, link);
    }
    await driverFor(await bench.writePlan()).removeStrays([]);
    await assertNothingLeft(spec, ['memory', 'root.raw']);
  });

  test('a save that fails leaves no file and a VM that can go on', async () => {
    const planPath = await bench.writePlan();
    const driver = driverFor(planPath);
    const spec = await bench.createSpec();
    const home = dirname(spec.memoryPath);
    const state = { devicesPath: join(home, 'd'), pagesPath: join(home, 'p') };
    const handle = await driver.start(spec);
    // It runs: Firecracker refuses.
    await rejectsWith('internal', driver.save(handle, spec.memoryPath, state));
    await driver.pause(handle);
    await mkdir(state.pagesPath);
    await rejectsWith('internal', driver.save(handle, spec.memoryPath, state));
    await rm(state.pagesPath, { recursive: true });
    await assert.rejects(stat(state.devicesPath), { code: 'ENOENT' });
    await driver.save(handle, spec.memoryPath, state);
    await driver.resume(handle);
    assert.deepEqual(await driver.status(handle), { state: 'running' });
    await driver.destroy(handle);
    await writeFile(state.devicesPath, '');
    await truncate(state.pagesPath, 10);
    await rejectsWith('snapshot_damaged', driver.restore(spec, state));
  });
});
