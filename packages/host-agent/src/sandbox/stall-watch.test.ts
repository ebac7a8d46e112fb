import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NestboxError } from '@nestbox/contract';
import { createGuestClient } from '../guest/guest-client.ts';
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
  const context = { driver, logger: TEST_LOGGER };
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
  await lookForStalls({ driver: deaf, logger: TEST_LOGGER }, [...table.values(), ...second.table.values()], LITTLE);
  assert.equal(second.sandbox.info.reason, 'full');
});
