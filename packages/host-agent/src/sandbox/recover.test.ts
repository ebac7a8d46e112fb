import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { isProcessAlive, type NestboxPaths, type ProcessIdentity } from '@nestbox/kit';
import { z } from 'zod';
import { makeTestHost } from '../testing/test-host.ts';
import { findProcesses } from '../vmm/processes.ts';
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

/** The VM of a create that does not come to its end, found as a stray is: by what its process carries. */
async function processOf(paths: NestboxPaths, sandboxId: string): Promise<ProcessIdentity> {
  const mark = `=${paths.runDir}/${sandboxId}`;
  for (const endsAt = performance.now() + 60_000; ; ) {
    const [found] = await findProcesses('environ', (words) => words.some((word) => word.endsWith(mark)));
    if (found !== undefined) return found.identity;
    assert.ok(performance.now() < endsAt, 'the VM did not start');
    await delay(20);
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
  const half = await processOf(paths, starting.sandboxId);
  const halfRecord = sandboxRecord.parse(JSON.parse(await readFile(layout.sandboxRecord(starting.sandboxId), 'utf8')));
  assert.equal(halfRecord.situation.state, 'starting');
  const exited = once(doomed, 'exit');
  doomed.kill('SIGKILL');
  await exited;
  const whole = sandboxRecord.parse(
    JSON.parse(await readFile(layout.sandboxRecord(running.sandboxId), 'utf8')),
  ).situation;
  assert.ok(whole.state === 'running' && isProcessAlive(whole.vm.process), 'the VM outlives its host agent');
  assert.ok(isProcessAlive(half));
  // What else a crash can leave.
  await mkdir(layout.sandboxDir('i00000000000000000000'));
  await writeFile(join(layout.sandboxDir('i00000000000000000000'), 'disk-00000000.qcow2'), 'a disk without a record');
  await mkdir(layout.sandboxRunDir('i00000000000000000000'));

  const { manager } = await testHost.start();
  assert.deepEqual(
    manager.list().map(({ sandboxId, state }) => ({ sandboxId, state })),
    [{ sandboxId: running.sandboxId, state: 'running' }],
  );
  assert.ok(isProcessAlive(whole.vm.process), 'and its processes go on');
  assert.ok(!isProcessAlive(half));
  assert.equal((await manager.metrics(running.sandboxId)).cpuCount, 2);
  assert.equal((await manager.create({ ...running, accessToken: running.accessToken })).result.state, 'running');
  assert.equal(manager.target(running.sandboxId).address, whole.slot.hostReachableAddress);

  await manager.destroy(running.sandboxId);
  assert.deepEqual(await testHost.leftovers(), []);
});
