import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile, watch, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { isProcessAlive } from '@nestbox/kit';
import { z } from 'zod';
import type { HostLayout } from '../storage/layout.ts';
import { makeTestHost } from '../testing/test-host.ts';
import { sandboxRecord } from './record.ts';

const DOOMED_HOST = join(import.meta.dirname, '..', 'testing', 'doomed-host.ts');
const spec = z.object({
  sandboxId: z.string(),
  templateId: z.string(),
  envVars: z.record(z.string(), z.string()),
  accessToken: z.string().optional(),
  allowInternetAccess: z.boolean(),
});
const announcement = z.object({ running: spec, starting: spec });

/** The record is written before the VM starts, and again with its handle. */
async function recordWithVm(layout: HostLayout, sandboxId: string) {
  await mkdir(layout.sandboxDir(sandboxId), { recursive: true });
  const look = async () => {
    const text = await readFile(layout.sandboxRecord(sandboxId), 'utf8').catch(() => '{}');
    const record = sandboxRecord.safeParse(JSON.parse(text));
    return record.success && record.data.vm !== undefined ? record.data : undefined;
  };
  const changes = watch(layout.sandboxDir(sandboxId), { signal: AbortSignal.timeout(60_000) });
  // Asking for the first change begins the watch; what was written before it is seen by looking.
  let change = changes[Symbol.asyncIterator]().next();
  for (;;) {
    const record = await look();
    if (record !== undefined) {
      await changes[Symbol.asyncIterator]().return?.();
      return record;
    }
    await change;
    change = changes[Symbol.asyncIterator]().next();
  }
}

test('after kill -9 of the host agent its running sandbox is found again and its half-made one is removed', async (t) => {
  const testHost = await makeTestHost(t);
  const { paths, layout } = testHost;
  const doomed = spawn(process.execPath, [DOOMED_HOST, paths.stateDir, paths.runDir, paths.instance], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => doomed.kill('SIGKILL'));
  const [line] = await once(createInterface({ input: doomed.stdout }), 'line');
  const { running, starting } = announcement.parse(JSON.parse(String(line)));
  const half = await recordWithVm(layout, starting.sandboxId);
  assert.equal(half.state, 'starting');
  const exited = once(doomed, 'exit');
  doomed.kill('SIGKILL');
  await exited;
  const whole = sandboxRecord.parse(JSON.parse(await readFile(layout.sandboxRecord(running.sandboxId), 'utf8')));
  assert.ok(whole.vm !== undefined && isProcessAlive(whole.vm.process), 'the VM outlives its host agent');
  assert.ok(half.vm !== undefined && isProcessAlive(half.vm.process));
  // What else a crash can leave.
  await mkdir(layout.sandboxDir('i00000000000000000000'));
  await writeFile(layout.sandboxDisk('i00000000000000000000'), 'a disk without a record');
  await mkdir(layout.sandboxRunDir('i00000000000000000000'));

  const { manager } = await testHost.start();
  assert.deepEqual(
    manager.list().map(({ sandboxId, state }) => ({ sandboxId, state })),
    [{ sandboxId: running.sandboxId, state: 'running' }],
  );
  assert.ok(isProcessAlive(whole.vm.process), 'and its processes go on');
  assert.ok(!isProcessAlive(half.vm.process));
  assert.equal((await manager.metrics(running.sandboxId)).cpuCount, 2);
  assert.equal((await manager.create({ ...running, accessToken: running.accessToken })).state, 'running');
  assert.equal(manager.target(running.sandboxId).address, whole.slot.hostReachableAddress);

  await manager.destroy(running.sandboxId);
  assert.deepEqual(await testHost.leftovers(), []);
});
