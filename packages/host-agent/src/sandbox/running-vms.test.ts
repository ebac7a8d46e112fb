import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { createGuestClient } from '../guest/guest-client.ts';
import { makeTestHost, testSpec } from '../testing/test-host.ts';
import { createFakeDriver } from '../vmm/fake/fake-driver.ts';
import { RunningVms } from './running-vms.ts';
import { SandboxTable } from './sandbox-table.ts';

const MINUTE = 60_000;

/** A sandbox that runs, whose guest answers how far its clock was off; time passes when the test says so. */
async function clockedVm(t: TestContext) {
  const testHost = await makeTestHost(t);
  const context = {
    ...testHost.context(),
    driver: Object.assign(createFakeDriver({ runRoot: '/nonexistent', logger: testHost.context().logger }), {
      onExit: () => () => {},
    }),
  };
  const looks: AbortSignal[] = [];
  const clock: { foundMs: number; fails: boolean } = { foundMs: 0, fails: false };
  const guest = {
    ...createGuestClient({ address: '127.0.0.1', accessToken: undefined }),
    async syncClock(signal?: AbortSignal) {
      if (signal !== undefined) looks.push(signal);
      if (clock.fails) throw new Error('no answer');
      return { foundMs: clock.foundMs, offsetMs: 0, roundTripMs: 1 };
    },
  };
  const spec = testSpec();
  const vm = {
    handle: { vmId: 'i1', vmm: 'fake', process: { pid: 1, startTicks: 1 }, runDir: '/run/x', cgroup: undefined },
    slot: { index: 1, netnsName: 'n', tapName: 't', guestMac: 'm', guestAddress: 'g', hostReachableAddress: 'h' },
    guest,
    machine: { layers: ['disk-00000000.qcow2'], kernelVersion: 'k', agentDiskHash: 'a', envdVersion: '0' },
  } as const;
  const identity = { spec, templateId: 't', vcpuCount: 1, memoryMib: 1, diskMib: 1, createdAtMs: 0 };
  const sandbox = new SandboxTable().add(
    { ...identity, guest: { envVars: {}, defaultUser: 'user' } },
    { state: 'running', vm, stall: undefined },
  );
  const vms = new RunningVms(context, async () => {});
  t.mock.timers.enable({ apis: ['setTimeout'] });
  return {
    vms,
    clock,
    looks,
    watch: () => vms.watch(sandbox, vm),
    unwatch: () => vms.unwatch(sandbox.id),
    async pass(ms: number) {
      t.mock.timers.tick(ms);
      await new Promise((resolve) => setImmediate(resolve));
      return looks.length;
    },
  };
}

test('the clock of a guest is looked at soon, then by how much it strays, also after a look that failed', async (t) => {
  const { watch, pass, clock, vms } = await clockedVm(t);
  watch();
  assert.equal(await pass(1000), 0);
  assert.equal(await pass(1000), 1);
  assert.equal(await pass(59_000), 1);
  clock.foundMs = 50;
  assert.equal(await pass(1000), 2, 'a minute after one that was right');
  clock.fails = true;
  assert.equal(await pass(29_999), 2);
  assert.equal(await pass(1), 3, 'half a minute after one that was wrong');
  assert.equal(await pass(30_000), 4);
  vms.close();
  assert.equal(await pass(10 * MINUTE), 4);
});

test('the clock of a VM that is not watched any more is left alone', async (t) => {
  const { watch, unwatch, pass, looks } = await clockedVm(t);
  watch();
  assert.equal(await pass(2000), 1);
  unwatch();
  assert.equal(looks[0]?.aborted, true, 'a question that is under way is given up');
  assert.equal(await pass(10 * MINUTE), 1);
  watch();
  watch();
  assert.equal(await pass(2000), 2, 'watched twice is watched once');
});
