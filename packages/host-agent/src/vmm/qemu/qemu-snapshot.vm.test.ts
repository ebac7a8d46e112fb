import assert from 'node:assert/strict';
import { mkdir, readFile, truncate, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { NestboxError } from '@nestbox/contract';
import { createLogger, runCommand } from '@nestbox/kit';
import { z } from 'zod';
import { mergeIntoImage } from '../../memory/memory-image.ts';
import { openPageFile } from '../../memory/page-file.ts';
import { countPages } from '../../memory/page-runs.ts';
import { ProcessMemory } from '../../memory/process-memory.ts';
import { createDriverBench, type DriverBench, whyNoVm } from '../../testing/driver-bench.ts';
import type { LayeringVmDriver, VmHandle, VmSpec, VmState } from '../driver.ts';
import { createQemuDriver } from './qemu-driver.ts';
import { QmpClient } from './qmp-client.ts';
import { qemuRunFiles } from './run-files.ts';

const skip = (await whyNoVm()) ?? false;
const TIMEOUT_MS = 30_000;

interface Stage {
  readonly bench: DriverBench;
  readonly driver: LayeringVmDriver;
  /** A guest that counts, on a qcow2 disk; it has counted a little. */
  startCounting(): Promise<{ spec: VmSpec; handle: VmHandle }>;
  /** The same machine in another place. */
  another(spec: VmSpec, name: string, diskPath?: string): Promise<VmSpec>;
  state(name: string): VmState & { readonly pagesPath: string };
}

async function setUp(t: TestContext): Promise<Stage> {
  const bench = await createDriverBench();
  const { runRoot, instance, cacheDir, folder } = bench;
  const driver = createQemuDriver({
    runRoot,
    instance,
    cacheDir,
    logger: createLogger({ level: 'silent' }),
    accelerator: 'tcg',
  });
  t.after(async () => {
    await driver.removeStrays([]);
    await driver.close();
    const last = createQemuDriver({ runRoot, instance, cacheDir, logger: createLogger({ level: 'silent' }) });
    await last.removeStrays([]);
    await last.close();
    await bench.remove();
  });
  let disks = 0;
  const overlayOn = async (backing: string | undefined) => {
    disks += 1;
    const path = join(folder, `disk-${disks}.qcow2`);
    const below = backing === undefined ? ['-b', 'base.raw', '-F', 'raw'] : ['-b', backing, '-F', 'qcow2'];
    await runCommand('qemu-img', ['create', '-q', '-u', '-f', 'qcow2', ...below, path, '16M']);
    return path;
  };
  return {
    bench,
    driver,
    async startCounting() {
      await writeFile(join(folder, 'base.raw'), '');
      await truncate(join(folder, 'base.raw'), 16 * 2 ** 20);
      const spec = await bench.createSpec('count');
      const path = await overlayOn(undefined);
      const counting = { ...spec, disks: [{ path, format: 'qcow2', readOnly: false } as const] };
      const handle = await driver.start(counting);
      await counted(counting, 3);
      return { spec: counting, handle };
    },
    async another(spec, name, diskPath) {
      const runDir = join(runRoot, name);
      await mkdir(runDir);
      const path = await overlayOn(diskPath ?? spec.disks[0]?.path);
      return {
        ...spec,
        vmId: name,
        runDir,
        consolePath: join(folder, `${name}.log`),
        disks: [{ path, format: 'qcow2', readOnly: false }],
      };
    },
    state: (name) => ({ devicesPath: join(folder, `${name}.devices`), pagesPath: join(folder, `${name}.pages`) }),
  };
}

/** What the guest has said: each number, and what it then read back from its disk. */
async function numbers(spec: VmSpec): Promise<number[]> {
  const text = await readFile(spec.consolePath, 'utf8');
  return [...text.matchAll(/^test: (\d+) (\d+)\s*$/gm)].map(([, number, stored]) => {
    assert.equal(number, stored, 'disk and memory are of the same moment');
    return Number(number);
  });
}

async function counted(spec: VmSpec, least: number): Promise<number[]> {
  for (const endsAt = performance.now() + TIMEOUT_MS; ; ) {
    const found = await numbers(spec);
    if ((found.at(-1) ?? 0) >= least) return found;
    assert.ok(performance.now() < endsAt, `the guest did not count to ${least}`);
    await sleep(20);
  }
}

async function freeze(driver: LayeringVmDriver, handle: VmHandle, spec: VmSpec, state: VmState): Promise<number> {
  await driver.pause(handle);
  await driver.save(handle, spec.memoryPath, state);
  // What was on its way to the console file has arrived: QEMU writes it at once.
  return (await numbers(spec)).at(-1) ?? 0;
}

test('a saved guest goes on where it was, in two places at once, and the source goes on too', { skip }, async (t) => {
  const { driver, startCounting, another, state } = await setUp(t);
  const { spec, handle } = await startCounting();
  const saved = state('first');
  const last = await freeze(driver, handle, spec, saved);
  const { nodes, sourceDisk } = { nodes: 2, sourceDisk: await driver.rootDiskPath(handle) };
  assert.equal(sourceDisk, spec.disks[0]?.path);
  // The source leaves its disk to the copies and goes on on a new one.
  const ownDisk = await another(spec, 'own-disk');
  await driver.switchDisk(handle, ownDisk.disks[0]?.path ?? '');
  assert.equal(await driver.rootDiskPath(handle), ownDisk.disks[0]?.path);
  await driver.resume(handle);

  const copies = await Promise.all(
    Array.from({ length: nodes }, async (_, index) => {
      const copy = await another(spec, `copy-${index}`);
      const restored = await driver.restore(copy, saved);
      assert.deepEqual(await driver.status(restored), { state: 'paused' });
      assert.deepEqual(await numbers(copy).catch(() => []), [], 'it does not run before it is told to');
      await driver.resume(restored);
      return { copy, restored };
    }),
  );
  for (const { copy } of copies) {
    const [first] = await counted(copy, last + 3);
    assert.equal(first, last + 1);
  }
  await counted(spec, last + 3);

  // A state of a copy is again one set of pages on the same image, and restores in the same way.
  const [one] = copies;
  assert.ok(one);
  const again = state('again');
  const copyLast = await freeze(driver, one.restored, one.copy, again);
  await driver.destroy(one.restored);
  const third = await another(spec, 'third', one.copy.disks[0]?.path);
  const restoredThird = await driver.restore(third, again);
  await driver.resume(restoredThird);
  const [firstOfThird] = await counted(third, copyLast + 3);
  assert.equal(firstOfThird, copyLast + 1);
  for (const each of [handle, copies[1]?.restored, restoredThird]) if (each) await driver.destroy(each);
});

test('a saved state becomes an image that VMs start from without pages on top', { skip }, async (t) => {
  const { bench, driver, startCounting, another, state } = await setUp(t);
  const { spec, handle } = await startCounting();
  const saved = state('template');
  const last = await freeze(driver, handle, spec, saved);
  await driver.destroy(handle);
  const image = { path: join(bench.folder, 'image'), mapPath: join(bench.folder, 'image.map') };
  const table = await mergeIntoImage({ path: spec.memoryPath, mapPath: undefined }, saved.pagesPath, image);
  assert.ok(table.pageCount > 1000);
  const before = await readFile(image.path);

  const copy = { ...(await another(spec, 'from-image')), memoryPath: image.path };
  const restored = await driver.restore(copy, { devicesPath: saved.devicesPath, pagesPath: undefined });
  {
    // What QEMU wrote into the memory by itself would differ from what the guest had.
    using memory = ProcessMemory.open(restored.process.pid, image.path, 'r');
    assert.equal(countPages(memory.changedPages()), 0);
  }
  await driver.resume(restored);
  assert.equal((await counted(copy, last + 3))[0], last + 1);
  const diff = state('diff');
  await freeze(driver, restored, copy, diff);
  const { pageCount } = openPageFile(diff.pagesPath).table;
  assert.ok(pageCount > 0 && pageCount < table.pageCount / 2, `${pageCount} pages differ of ${table.pageCount}`);
  await driver.destroy(restored);
  assert.ok(before.equals(await readFile(image.path)), 'the image never changes');
});

test('a state that is damaged is refused and leaves nothing', { skip }, async (t) => {
  const { driver, startCounting, another, state } = await setUp(t);
  const { spec, handle } = await startCounting();
  const saved = state('saved');
  await freeze(driver, handle, spec, saved);
  await driver.destroy(handle);
  const devices = await readFile(saved.devicesPath);
  const pages = await readFile(saved.pagesPath);
  const refuses = async (name: string) => {
    const copy = await another(spec, name);
    await assert.rejects(
      () => driver.restore(copy, saved),
      (error) => error instanceof NestboxError && error.code === 'snapshot_damaged',
    );
    assert.deepEqual(await driver.removeStrays([]), []);
  };
  await writeFile(saved.devicesPath, devices.subarray(0, devices.length / 2));
  await refuses('half');
  await writeFile(saved.devicesPath, 'no devices at all');
  await refuses('none');
  await writeFile(saved.devicesPath, devices);
  await writeFile(saved.pagesPath, pages.with(pages.length - 1, (pages.at(-1) ?? 0) ^ 1));
  await refuses('page');
});

test('a disk of many layers is flattened while the guest writes to it', { skip }, async (t) => {
  const { bench, driver, startCounting, another } = await setUp(t);
  const { spec, handle } = await startCounting();
  let top = spec.disks[0]?.path;
  for (let layer = 0; layer < 3; layer++) {
    await driver.pause(handle);
    const next = (await another(spec, `layer-${layer}`, top)).disks[0]?.path ?? '';
    await driver.switchDisk(handle, next);
    await driver.resume(handle);
    top = next;
    await counted(spec, ((await numbers(spec)).at(-1) ?? 0) + 2);
  }
  await driver.flattenDisk(handle, join(bench.folder, 'base.raw'));
  await counted(spec, ((await numbers(spec)).at(-1) ?? 0) + 3);
  await driver.destroy(handle);
  const { stdout } = await runCommand('qemu-img', ['info', '--output=json', top ?? '']);
  assert.equal(JSON.parse(stdout)['backing-filename'], 'base.raw');
  await runCommand('qemu-img', ['check', '-q', top ?? '']);
});

test('a disk that a host agent was flattening when it was killed takes layers, and is flattened, by the next one', {
  skip,
}, async (t) => {
  const { bench, driver, startCounting, another } = await setUp(t);
  const { spec, handle } = await startCounting();
  const first = (await another(spec, 'layer-1', spec.disks[0]?.path)).disks[0]?.path ?? '';
  await driver.switchDisk(handle, first);
  await driver.close();
  // What it does, and no end of it.
  const qmp = await QmpClient.connect(qemuRunFiles(handle.runDir).qmpSocket, { deadlineMs: TIMEOUT_MS });
  const ask = (command: string, args: Record<string, unknown>) =>
    qmp.execute(command, args, { deadlineMs: TIMEOUT_MS });
  const nodes = z
    .array(z.object({ file: z.string(), drv: z.string(), 'node-name': z.string() }))
    .parse(await ask('query-named-block-nodes', { flat: true }));
  const nodeOf = (path: string, drv: string) =>
    nodes.find((node) => node.drv === drv && basename(node.file) === basename(path))?.['node-name'];
  await ask('block-stream', {
    'job-id': 'flatten',
    device: nodeOf(first, 'qcow2'),
    'base-node': nodeOf('base.raw', 'raw'),
    'backing-file': 'base.raw',
    'auto-dismiss': false,
  });
  qmp.close();

  const { runRoot, instance, cacheDir, folder } = bench;
  const next = createQemuDriver({ runRoot, instance, cacheDir, logger: createLogger({ level: 'silent' }) });
  t.after(() => next.close());
  const second = (await another(spec, 'layer-2', first)).disks[0]?.path ?? '';
  await next.switchDisk(handle, second);
  await next.flattenDisk(handle, join(folder, 'base.raw'));
  await counted(spec, ((await numbers(spec)).at(-1) ?? 0) + 3);
  assert.equal((await next.status(handle)).state, 'running');
  await next.destroy(handle);
  await runCommand('qemu-img', ['check', '-q', second]);
});
