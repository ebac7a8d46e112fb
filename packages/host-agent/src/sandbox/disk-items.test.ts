import assert from 'node:assert/strict';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { makeTestHost, TEST_TEMPLATE_ID, testSpec } from '../testing/test-host.ts';
import { diskUsageOf } from './disk-items.ts';

const MIB = 2 ** 20;

test('a host’s disk is told by every sandbox, template, snapshot and image', async (t) => {
  const testHost = await makeTestHost(t);
  const { layout } = testHost;
  const { manager } = await testHost.start({ useSnapshots: true, prepareAtStart: false });
  await manager.prepareTemplates();
  const { sandboxId } = (await manager.create(testSpec())).result;
  testHost.failures.changedPages = 256;
  await manager.snapshot(sandboxId, { templateId: 'snap', names: ['mine'] });
  const copy = (await manager.create(testSpec({ templateId: 'snap' }))).result.sandboxId;
  await manager.pause(sandboxId, { memory: true });
  await mkdir(join(layout.kernelsDir, '6.1'), { recursive: true });
  await writeFile(join(layout.kernelsDir, '6.1', 'vmlinux'), Buffer.alloc(MIB, 1));
  await mkdir(layout.templateDir('broken'));
  await writeFile(layout.templateFile('broken'), '{');
  await mkdir(layout.sandboxDir('iwaiting'));

  const { items, freeBytes, totalBytes } = await manager.diskUsage();
  assert.ok(freeBytes > 0 && freeBytes < totalBytes);
  assert.deepEqual(
    new Set(items.map(({ kind, id, name }) => `${kind} ${id} ${name}`.trim())),
    new Set([
      `sandbox ${sandboxId} paused`,
      `sandbox ${copy} running`,
      'warm iwaiting',
      `template ${TEST_TEMPLATE_ID} base`,
      'snapshot snap mine',
      'template broken damaged',
      'image 6.1 kernel',
      'image agent agent disks',
    ]),
  );
  assert.deepEqual(
    items.filter(({ damage }) => damage !== undefined).map(({ id }) => id),
    ['broken'],
  );
  const of = (id: string) => items.find((item) => item.id === id);
  // The image is one file that the snapshot and the sandbox of it have; the pages are the paused one's own.
  assert.ok((of('snap')?.sharedBytes ?? 0) >= 256 * 4096);
  assert.ok((of(copy)?.sharedBytes ?? 0) >= 256 * 4096);
  assert.ok((of(sandboxId)?.memoryBytes ?? 0) >= 256 * 4096);
  assert.ok((of(sandboxId)?.ownBytes ?? 0) >= 256 * 4096);
  assert.ok((of('6.1')?.ownBytes ?? 0) >= MIB);
});

test('a host’s disk is told where nothing was set up yet', async (t) => {
  const testHost = await makeTestHost(t);
  await rm(testHost.paths.stateDir, { recursive: true });
  const items = await diskUsageOf(testHost.context(), [], () => undefined);
  assert.deepEqual(
    items.map(({ id, ownBytes }) => ({ id, ownBytes })),
    [{ id: 'agent', ownBytes: 0 }],
  );
});
