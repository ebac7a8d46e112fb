import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { totalmem } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { NestboxError } from '@nestbox/contract';
import { folderUsage } from '../storage/disk-usage.ts';
import { gate, until, withCode } from '../testing/sandbox-checks.ts';
import { makeTestHost, testSpec } from '../testing/test-host.ts';
import { hasCapacity, requireCapacity, resolveHostLimits } from './host-limits.ts';

const WITH_MEMORY = { memory: true };

describe('the capacity of a host', () => {
  const limits = resolveHostLimits({ maxSandboxes: 3, maxMemoryMib: 1000 });
  const running = { memoryMib: 400, state: 'running' } as const;
  const paused = { memoryMib: 400, state: 'paused' } as const;

  test('is taken by everything but what is paused', () => {
    requireCapacity(limits, [running, paused, paused, paused], 600);
    for (const state of ['starting', 'pausing', 'resuming', 'stopping'] as const)
      assert.throws(
        () => requireCapacity(limits, [running, { memoryMib: 400, state }], 201),
        withCode('host_capacity', /needs 201 MiB of memory; 200 of the 1000 MiB/),
      );
    requireCapacity(limits, [running, running], 200);
  });

  test('is counted in sandboxes, too', () => {
    const small = { memoryMib: 1, state: 'running' } as const;
    requireCapacity(limits, [small, small], 1);
    assert.throws(
      () => requireCapacity(limits, [small, small, small], 1),
      withCode('host_capacity', /runs 3 sandboxes, the most it may \(3\)/),
    );
    assert.equal(hasCapacity(limits, [small, small], 1), true);
    assert.equal(hasCapacity(limits, [small, small, small], 1), false);
  });

  test('is most of its memory when nothing else is said', () => {
    const { maxMemoryMib, maxSnapshotBytes, maxConcurrentBoots } = resolveHostLimits();
    assert.ok(maxMemoryMib > (totalmem() / 2 ** 20) * 0.8 && maxMemoryMib < totalmem() / 2 ** 20);
    assert.equal(maxSnapshotBytes, undefined);
    assert.ok(maxConcurrentBoots >= 2);
  });

  test('is not exceeded by creates that come at once', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start({ limits: { maxSandboxes: 2 } });
    const creates = await Promise.allSettled([1, 2, 3, 4].map(() => manager.create(testSpec())));
    assert.deepEqual(creates.map((create) => (create.status === 'rejected' ? create.reason.code : 'created')).sort(), [
      'created',
      'created',
      'host_capacity',
      'host_capacity',
    ]);
  });
});

describe('the number of snapshots of a host', () => {
  test('counts paused sandboxes and those that are being paused; the one too many goes on', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start({ limits: { maxSnapshots: 1 } });
    const [first = '', second = ''] = await Promise.all(
      [1, 2].map(async () => (await manager.create(testSpec())).result.sandboxId),
    );
    const save = gate();
    testHost.failures.saveGate = save.promise;
    const pausing = manager.pause(first, WITH_MEMORY);
    await until('the pause', () => existsSync(testHost.layout.sandboxPauseDraft(first)));
    const limit = withCode('snapshot_limit', /keeps 1 paused sandboxes and snapshots, the most it may \(1\)/);
    await assert.rejects(manager.pause(second, { memory: false }), limit);
    save.open();
    await pausing;
    await assert.rejects(manager.pause(second, WITH_MEMORY), limit);
    await assert.rejects(manager.snapshot(second, { templateId: 'snap', names: [] }), limit);
    assert.equal(manager.get(second).state, 'running');
    assert.equal((await manager.metrics(second)).cpuCount, 2);
    await manager.resume(first, WITH_MEMORY);
    assert.equal((await manager.pause(second, WITH_MEMORY)).result.state, 'paused');
  });

  test('is not exceeded by two that come at once', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start({ limits: { maxSnapshots: 2 } });
    const ids = await Promise.all([1, 2, 3].map(async () => (await manager.create(testSpec())).result.sandboxId));
    const [first = '', ...others] = ids;
    const asked = await Promise.allSettled([
      manager.snapshot(first, { templateId: 'one', names: [] }),
      manager.snapshot(first, { templateId: 'two', names: [] }),
      ...others.map((sandboxId) => manager.pause(sandboxId, WITH_MEMORY)),
    ]);
    const refused = asked.flatMap((result) => (result.status === 'rejected' ? [result.reason.code] : []));
    assert.deepEqual(refused, ['snapshot_limit', 'snapshot_limit']);
    // What did not come about takes no room.
    for (const name of ['one', 'two']) await manager.deleteTemplate(name);
    for (const { sandboxId, state } of manager.list()) if (state === 'paused') await manager.destroy(sandboxId);
    testHost.failures.saveError = new NestboxError('host_disk_full', 'there is no room');
    await assert.rejects(manager.snapshot(first, { templateId: 'three', names: [] }), withCode('host_disk_full'));
    delete testHost.failures.saveError;
    await manager.snapshot(first, { templateId: 'four', names: [] });
    await manager.pause(first, WITH_MEMORY);
  });

  test('counts snapshots; one that takes the place of another is no more', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start({ limits: { maxSnapshots: 1 } });
    const { sandboxId } = (await manager.create(testSpec())).result;
    await manager.snapshot(sandboxId, { templateId: 'snap', names: [] });
    await manager.snapshot(sandboxId, { templateId: 'snap', names: [] });
    await assert.rejects(manager.snapshot(sandboxId, { templateId: 'more', names: [] }), withCode('snapshot_limit'));
    await assert.rejects(manager.pause(sandboxId, WITH_MEMORY), withCode('snapshot_limit'));
    await manager.deleteTemplate('snap');
    await manager.pause(sandboxId, WITH_MEMORY);
  });
});

describe('the bytes of all snapshots of a host', () => {
  test('are not exceeded by two that come at once', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start({ limits: { maxSnapshotBytes: 8 * 2 ** 20 } });
    const ids = await Promise.all([1, 2].map(async () => (await manager.create(testSpec())).result.sandboxId));
    testHost.failures.changedPages = (8 * 2 ** 20) / 4096;
    const pauses = await Promise.allSettled(ids.map((sandboxId) => manager.pause(sandboxId, WITH_MEMORY)));
    const refused = pauses.flatMap((result) => (result.status === 'rejected' ? [result.reason.code] : []));
    assert.deepEqual(refused, ['snapshot_limit']);
  });

  test('are limited, by what nobody else has too', async (t) => {
    const testHost = await makeTestHost(t);
    const { manager } = await testHost.start({ limits: { maxSnapshotBytes: 8 * 2 ** 20 } });
    const ids: string[] = [];
    for (let count = 0; count < 3; count++) ids.push((await manager.create(testSpec())).result.sandboxId);
    const [first = '', second = '', third = ''] = ids;
    await manager.pause(first, WITH_MEMORY);
    // Far below the limit by what is its own: the disks are shared.
    testHost.failures.changedPages = (8 * 2 ** 20) / 4096;
    await manager.pause(second, WITH_MEMORY);
    const { ownBytes } = await folderUsage(testHost.layout.sandboxDir(second));
    const { size } = await stat(join(testHost.layout.sandboxPauseDir(second), 'pages'));
    assert.ok(ownBytes >= size && size > 8 * 2 ** 20);
    await assert.rejects(
      manager.pause(third, WITH_MEMORY),
      withCode('snapshot_limit', /take \d+ MiB on this host, which may keep 8 MiB.*nestbox disk/),
    );
    assert.equal(manager.get(third).state, 'running');
    await manager.destroy(second);
    await manager.pause(third, WITH_MEMORY);
  });
});
