import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NestboxError } from '@nestbox/contract';
import { resolvePaths } from '@nestbox/kit';
import { createGuestClient } from '../guest/guest-client.ts';
import { hostLayout } from '../storage/layout.ts';
import { Telemetry } from '../telemetry/telemetry.ts';
import { TEST_LOGGER, testSpec } from '../testing/test-host.ts';
import type { VmDriver, VmStatus } from '../vmm/driver.ts';
import { createFakeDriver } from '../vmm/fake/fake-driver.ts';
import { SandboxTable } from './sandbox-table.ts';
import { lookForStalls } from './stall-watch.ts';

const PLENTY = 2 ** 40;
const LITTLE = 2 ** 20;

/** A VMM whose guest stands still until it is resumed. */
function stallingDriver() {
  const calls: string[] = [];
  let status: VmStatus = { state: 'running' };
  const driver: VmDriver = Object.assign(createFakeDriver({ runRoot: '/nonexistent', logger: TEST_LOGGER }), {
    async status() {
      calls.push('status');
      return status;
    },
    async resume() {
      calls.push('resume');
      status = { state: 'running' };
    },
  });
  return {
    driver,
    calls,
    stall() {
      status = { state: 'stalled', reason: 'no space left' };
    },
  };
}

/** Keeps what is told into the sandboxes' logs. */
function toldLog() {
  const told: string[] = [];
  const telemetry = new Telemetry(hostLayout(resolvePaths({ NESTBOX_DIR: '/nonexistent' })), TEST_LOGGER);
  telemetry.note = async (_sandboxId, level, message) => void told.push(`${level}: ${message}`);
  return { telemetry, told };
}

function tableWithOne() {
  const table = new SandboxTable();
  const spec = testSpec();
  const { sandboxId } = spec;
  const sandbox = table.add(
    {
      spec,
      templateId: 't',
      vcpuCount: 1,
      memoryMib: 1,
      diskMib: 1,
      guest: { envVars: {}, defaultUser: 'user' },
      createdAtMs: 0,
    },
    {
      state: 'running',
      stall: undefined,
      vm: {
        handle: {
          vmId: sandboxId,
          vmm: 'fake',
          process: { pid: 1, startTicks: 0 },
          runDir: '/nonexistent/x',
          cgroup: undefined,
        },
        slot: {
          index: 1,
          netnsName: '',
          tapName: '',
          guestMac: '',
          guestAddress: '',
          hostReachableAddress: '127.0.0.1',
        },
        guest: createGuestClient({ address: '127.0.0.1', accessToken: undefined }),
        machine: { layers: ['disk-00000000.qcow2'], kernelVersion: 'k', agentDiskHash: 'a', envdVersion: '0' },
      },
    },
  );
  return { table, sandbox };
}

test('a guest that stands still on a full disk is told, refuses requests, and goes on when there is room', async () => {
  const { table, sandbox } = tableWithOne();
  const { driver, calls, stall } = stallingDriver();
  const { telemetry, told } = toldLog();
  const context = { driver, logger: TEST_LOGGER, telemetry };
  const look = (free: number) => lookForStalls(context, table.values(), free);

  await look(PLENTY);
  assert.equal(calls.length, 0, 'nobody is asked while there is room');
  await look(LITTLE);
  assert.equal(sandbox.info.reason, undefined);

  stall();
  await look(LITTLE);
  assert.equal(sandbox.info.state, 'running');
  assert.equal(sandbox.info.reason, 'no space left');
  assert.throws(
    () => table.requireRunning(sandbox.id),
    (error: unknown) => error instanceof NestboxError && error.code === 'host_disk_full',
  );
  assert.ok(!calls.includes('resume'), 'not before there is room');

  await look(PLENTY);
  assert.ok(calls.includes('resume'));
  assert.equal(sandbox.info.reason, undefined);
  assert.equal(table.requireRunning(sandbox.id).sandbox, sandbox);
  assert.deepEqual(told, [
    'warn: Sandbox stands still: no space left',
    'warn: Sandbox goes on, there is room again. It stood still: no space left',
  ]);
});

test('a pause that fails while the VMM is asked does not keep the stall from being noted', async () => {
  const { table, sandbox } = tableWithOne();
  const { driver, stall } = stallingDriver();
  stall();
  const busy = Object.assign(driver, {
    async status(): Promise<VmStatus> {
      const { lifecycle } = sandbox;
      assert.ok(lifecycle.state === 'running');
      sandbox.transition({ state: 'pausing', vm: lifecycle.vm });
      sandbox.transition({ state: 'running', vm: lifecycle.vm, stall: undefined });
      return { state: 'stalled', reason: 'full' };
    },
  });
  await lookForStalls({ driver: busy, logger: TEST_LOGGER, telemetry: toldLog().telemetry }, table.values(), LITTLE);
  assert.equal(sandbox.info.reason, 'full');
});

test('a VMM that does not answer leaves the others to be looked at', async () => {
  const { table } = tableWithOne();
  const { driver } = stallingDriver();
  let asked = 0;
  const deaf = Object.assign(driver, {
    async status(): Promise<VmStatus> {
      asked += 1;
      if (asked === 1) throw new NestboxError('sandbox_unreachable', 'no answer');
      return { state: 'stalled', reason: 'full' };
    },
  });
  const second = tableWithOne();
  await lookForStalls(
    { driver: deaf, logger: TEST_LOGGER, telemetry: toldLog().telemetry },
    [...table.values(), ...second.table.values()],
    LITTLE,
  );
  assert.equal(second.sandbox.info.reason, 'full');
});
