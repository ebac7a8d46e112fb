import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { NestboxError } from '@nestbox/contract';
import { KeyedMutex, resolvePaths } from '@nestbox/kit';
import { createGuestClient } from '../guest/guest-client.ts';
import { hostLayout } from '../storage/layout.ts';
import { Telemetry } from '../telemetry/telemetry.ts';
import { until } from '../testing/sandbox-checks.ts';
import { TEST_LOGGER, testSpec } from '../testing/test-host.ts';
import type { VmDriver, VmStatus } from '../vmm/driver.ts';
import { createFakeDriver } from '../vmm/fake/fake-driver.ts';
import { requireRunningVm } from './require-state.ts';
import { SandboxTable } from './sandbox-table.ts';
import { lookBeforeSave, lookForStall, watchForStalls } from './stall-watch.ts';

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

/** What a look needs, and what it tells into the sandboxes' logs. */
function makeContext(driver: VmDriver) {
  const told: string[] = [];
  const layout = hostLayout(resolvePaths({ NESTBOX_DIR: '/nonexistent' }));
  const telemetry = new Telemetry(layout, TEST_LOGGER);
  telemetry.note = async (_sandboxId, level, message) => void told.push(`${level}: ${message}`);
  return { context: { driver, logger: TEST_LOGGER, telemetry, layout }, told };
}

function tableWithOne() {
  return addOne(new SandboxTable());
}

function addOne(table: SandboxTable) {
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

const withFree = (bytes: number) => async () => bytes;

/** Looks every few milliseconds until the test ends. */
function keepWatch(
  t: TestContext,
  context: ReturnType<typeof makeContext>['context'],
  table: SandboxTable,
  { serial = new KeyedMutex(), free = PLENTY } = {},
) {
  const stop = watchForStalls({ context, serial }, () => table.values(), { intervalMs: 5, free: withFree(free) });
  t.after(stop);
}

test('a guest that stands still on a full disk is told, refuses requests, and goes on when there is room', async () => {
  const { table, sandbox } = tableWithOne();
  const { driver, calls, stall } = stallingDriver();
  const { context, told } = makeContext(driver);
  const look = (free: number) => lookForStall(context, sandbox, withFree(free));

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
  await look(LITTLE);
  assert.ok(!calls.includes('resume'), 'not before there is room');

  await look(PLENTY);
  assert.ok(calls.includes('resume'));
  assert.equal(sandbox.info.reason, undefined);
  assert.equal(table.requireRunning(sandbox.id).sandbox, sandbox);
  assert.deepEqual(told, [
    'warn: Sandbox stands still: no space left',
    'warn: Sandbox goes on. It stood still: no space left',
  ]);
});

test('whoever is about to save a sandbox asks its VMM when there is little room, and not otherwise', async () => {
  const { sandbox } = tableWithOne();
  const { driver, calls, stall } = stallingDriver();
  const { context } = makeContext(driver);
  stall();
  await lookBeforeSave(context, sandbox, withFree(PLENTY));
  assert.deepEqual(calls, []);
  await lookBeforeSave(context, sandbox, withFree(LITTLE));
  assert.equal(sandbox.info.reason, 'no space left');
});

test('a client that pauses a sandbox again and again does not keep a stall from being noted', async (t) => {
  const { table, sandbox } = tableWithOne();
  const { driver, stall } = stallingDriver();
  const { context, told } = makeContext(driver);
  const serial = new KeyedMutex();
  stall();
  keepWatch(t, context, table, { serial, free: LITTLE });
  // Each has its turn before the one before it has ended, so the sandbox is never just running outside of one.
  const pause = () =>
    serial.run(sandbox.id, async () => {
      const vm = requireRunningVm(sandbox);
      sandbox.transition({ state: 'pausing', vm });
      await sleep(20);
      sandbox.transition({ state: 'running', vm, stall: undefined });
    });
  let last = pause();
  const refused = await (async () => {
    for (let tries = 0; tries < 100; tries++) {
      const next = pause();
      try {
        await last;
      } catch (error) {
        await next.catch(() => {});
        return error;
      }
      last = next;
    }
    return undefined;
  })();
  assert.ok(refused instanceof NestboxError && refused.code === 'host_disk_full');
  assert.deepEqual(told, ['warn: Sandbox stands still: no space left']);
});

test('a guest that stands still is found also when there is room again before anybody has looked', async (t) => {
  const { table, sandbox } = tableWithOne();
  const { driver, calls, stall } = stallingDriver();
  const { context, told } = makeContext(driver);
  stall();
  keepWatch(t, context, table);
  await until('it goes on', () => told.length === 2);
  assert.ok(calls.includes('resume'));
  assert.equal(sandbox.info.reason, undefined);
});

test('no guest is let go on while somebody else has the turn of its sandbox', async (t) => {
  const { table, sandbox } = tableWithOne();
  const { driver, calls, stall } = stallingDriver();
  const { context } = makeContext(driver);
  const serial = new KeyedMutex();
  stall();
  await serial.run(sandbox.id, async () => {
    keepWatch(t, context, table, { serial });
    await sleep(100);
    assert.deepEqual(calls, []);
  });
  await until('it goes on', () => calls.includes('resume'));
});

test('a VMM that does not answer leaves the others to be looked at', async (t) => {
  const { table } = tableWithOne();
  const { driver } = stallingDriver();
  let asked = 0;
  const deaf = Object.assign(driver, {
    async status(): Promise<VmStatus> {
      asked += 1;
      if (asked % 2 === 1) throw new NestboxError('sandbox_unreachable', 'no answer');
      return { state: 'stalled', reason: 'full' };
    },
  });
  const { sandbox: second } = addOne(table);
  keepWatch(t, makeContext(deaf).context, table, { free: LITTLE });
  await until('the second one', () => second.info.reason === 'full');
});
