import assert from 'node:assert/strict';
import { copyFile, mkdir, readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { describe, test } from 'node:test';
import { NestboxError } from '@nestbox/contract';
import { runCommand } from '@nestbox/kit';
import { rejectsWith } from './conformance-support.ts';
import { takesLayers, type VmDriver, type VmHandle, type VmMachine, type VmSpec, type VmState } from './driver.ts';

/** What the suite lends. */
export interface SnapshotStage {
  /** Its first disk is raw. */
  createSpec(): Promise<VmSpec>;
  runRoot(): string;
  driver(): VmDriver;
  /** A driver of its own, as a host agent that starts has. One driver at a time speaks to a VM. */
  another(): { readonly driver: VmDriver } & AsyncDisposable;
  assertNothingLeft(machine: VmMachine): Promise<void>;
}

type Files = VmState & { readonly pagesPath: string };

/** What every driver with the feature `snapshot` must do. What a guest itself notices is in the tests of each driver. */
export function describeSnapshots(stage: SnapshotStage): void {
  let count = 0;
  const name = () => `s${++count}`;

  const layered = () => takesLayers(stage.driver());
  const topFormat = () => (layered() ? 'qcow2' : 'raw');

  /** A driver without layers gets a copy. */
  async function layerOn(below: string, format: 'raw' | 'qcow2'): Promise<string> {
    if (!layered()) {
      const copy = join(dirname(below), `${name()}.raw`);
      await copyFile(below, copy);
      return copy;
    }
    const path = join(dirname(below), `${name()}.qcow2`);
    await runCommand('qemu-img', ['create', '-q', '-f', 'qcow2', '-F', format, '-b', below, path]);
    return path;
  }

  const rootOf = (machine: VmMachine) => machine.disks[0]?.path ?? '';

  /** A VM on a disk with layers where the driver has them, destroyed when the test ends. */
  async function startVm(driver = stage.driver()) {
    const spec = await stage.createSpec();
    const path = await layerOn(rootOf(spec), 'raw');
    const machine: VmSpec = { ...spec, disks: [{ path, format: topFormat(), readOnly: false }] };
    const handle = await driver.start(machine);
    return { machine, handle, basePath: rootOf(spec), [Symbol.asyncDispose]: () => stage.driver().destroy(handle) };
  }

  /** The same machine on a new layer, in a place of its own. */
  async function elsewhere(machine: VmMachine): Promise<VmMachine> {
    const vmId = name();
    const runDir = join(stage.runRoot(), vmId);
    await mkdir(runDir);
    const path = await layerOn(rootOf(machine), 'qcow2');
    const consolePath = join(dirname(path), `${vmId}.log`);
    return { ...machine, vmId, runDir, consolePath, disks: [{ path, format: topFormat(), readOnly: false }] };
  }

  function filesOf(machine: VmMachine): Files {
    const base = join(dirname(machine.consolePath), name());
    return { devicesPath: `${base}.devices`, pagesPath: `${base}.pages` };
  }

  async function freeze(machine: VmMachine, handle: VmHandle): Promise<Files> {
    const files = filesOf(machine);
    await stage.driver().pause(handle);
    await stage.driver().save(handle, machine.memoryPath, files);
    return files;
  }

  describe('with snapshots', () => {
    test('saves a paused VM, which stays paused and can go on, again and again', async () => {
      const driver = stage.driver();
      await using vm = await startVm();
      for (let round = 0; round < 2; round++) {
        const files = filesOf(vm.machine);
        await driver.pause(vm.handle);
        const { changedPages } = await driver.save(vm.handle, vm.machine.memoryPath, files);
        assert.ok(changedPages > 0);
        for (const path of [files.devicesPath, files.pagesPath]) assert.ok((await stat(path)).size > 0, path);
        assert.deepEqual(await driver.status(vm.handle), { state: 'paused' });
        await driver.resume(vm.handle);
        assert.deepEqual(await driver.status(vm.handle), { state: 'running' });
      }
    });

    test('restores a VM that is gone, and it stands still until it is resumed', async () => {
      const driver = stage.driver();
      const { machine, handle } = await startVm();
      const files = await freeze(machine, handle);
      await driver.destroy(handle, { graceful: false });
      assert.equal((await driver.status(handle)).state, 'gone');
      const next = { ...machine, disks: (await elsewhere(machine)).disks };
      const restored = await driver.restore(next, files);
      assert.equal(restored.vmId, machine.vmId);
      assert.deepEqual(await driver.status(restored), { state: 'paused' });
      if (takesLayers(driver)) assert.equal(await driver.rootDiskPath(restored), rootOf(next));
      await driver.resume(restored);
      assert.deepEqual(await driver.status(restored), { state: 'running' });
      await driver.destroy(restored);
      await stage.assertNothingLeft(machine);
    });

    test('restores one state in several places at once, beside the VM that it was saved of', async () => {
      const driver = stage.driver();
      await using vm = await startVm();
      const files = await freeze(vm.machine, vm.handle);
      const places = [await elsewhere(vm.machine), await elsewhere(vm.machine)];
      if (takesLayers(driver)) await driver.switchDisk(vm.handle, rootOf(await elsewhere(vm.machine)));
      await driver.resume(vm.handle);
      const restored = await Promise.all(places.map((place) => driver.restore(place, files)));
      for (const handle of restored) await driver.resume(handle);
      for (const handle of [vm.handle, ...restored])
        assert.deepEqual(await driver.status(handle), { state: 'running' });
      for (const handle of restored) await driver.destroy(handle);
      for (const place of places) await stage.assertNothingLeft(place);
    });

    test('gives a restored VM that another driver finds again, and hears of its end', async () => {
      const { machine, handle } = await startVm();
      const files = await freeze(machine, handle);
      await stage.driver().destroy(handle, { graceful: false });
      const place = await elsewhere(machine);
      const first = stage.another();
      const restored: VmHandle = JSON.parse(JSON.stringify(await first.driver.restore(place, files)));
      await first[Symbol.asyncDispose]();
      await using second = stage.another();
      assert.deepEqual(await second.driver.status(restored), { state: 'paused' });
      await second.driver.resume(restored);
      const told = new Promise<string>((resolve) => second.driver.onExit(restored, resolve));
      process.kill(restored.process.pid, 'SIGKILL');
      assert.match(await told, /\S/);
      await second.driver.destroy(restored);
      await stage.assertNothingLeft(place);
    });

    for (const [what, damage, code] of [
      ['devices are no devices', ({ devicesPath }) => writeFile(devicesPath, 'no devices at all'), 'snapshot_damaged'],
      ['devices are missing', (files) => move(files, 'devicesPath'), undefined],
      ['pages are cut', ({ pagesPath }) => truncate(pagesPath, 4096 + 17), 'snapshot_damaged'],
      ['pages were changed', ({ pagesPath }) => flipLastBit(pagesPath), 'snapshot_damaged'],
      ['pages are missing', (files) => move(files, 'pagesPath'), undefined],
    ] satisfies [string, (files: Files) => Promise<unknown>, 'snapshot_damaged' | undefined][])
      test(`refuses a state whose ${what}, and leaves nothing`, async () => {
        const { machine, handle } = await startVm();
        const files = await freeze(machine, handle);
        await stage.driver().destroy(handle, { graceful: false });
        await damage(files);
        const place = await elsewhere(machine);
        const error = await stage
          .driver()
          .restore(place, files)
          .catch((thrown: unknown) => thrown);
        assert.ok(error instanceof NestboxError, String(error));
        if (code !== undefined) assert.equal(error.code, code, error.message);
        await stage.assertNothingLeft(place);
      });

    test('leaves nothing when a restore is aborted, and throws the reason', async () => {
      const { machine, handle } = await startVm();
      const files = await freeze(machine, handle);
      await stage.driver().destroy(handle, { graceful: false });
      const place = await elsewhere(machine);
      const reason = new NestboxError('sandbox_stopping', 'The sandbox was killed while it was restored.');
      await rejectsWith('sandbox_stopping', stage.driver().restore(place, files, AbortSignal.abort(reason)));
      await stage.assertNothingLeft(place);
    });

    test('says which file the root disk is written to, and goes on in another', async (t) => {
      const first = stage.another();
      if (!takesLayers(first.driver)) {
        await first[Symbol.asyncDispose]();
        t.skip('this driver has no layers');
        return;
      }
      const { machine, handle } = await startVm(first.driver);
      const before = await readFile(rootOf(machine));
      assert.equal(await first.driver.rootDiskPath(handle), rootOf(machine));
      const next = rootOf(await elsewhere(machine));
      await first.driver.pause(handle);
      await first.driver.switchDisk(handle, next);
      assert.equal(await first.driver.rootDiskPath(handle), next);
      await first[Symbol.asyncDispose]();
      // A driver that never saw the switch asks the VMM.
      await using second = stage.another();
      assert.ok(takesLayers(second.driver));
      assert.equal(await second.driver.rootDiskPath(handle), next);
      await second.driver.resume(handle);
      assert.deepEqual(await second.driver.status(handle), { state: 'running' });
      await second.driver.destroy(handle);
      assert.ok(before.equals(await readFile(rootOf(machine))), 'the old file is as it was');
    });

    test('pulls what lies between into the top of a disk, while the VM runs', async (t) => {
      const driver = stage.driver();
      if (!takesLayers(driver)) {
        t.skip('this driver has no layers');
        return;
      }
      await using vm = await startVm();
      let top: VmMachine = vm.machine;
      for (let layer = 0; layer < 2; layer++) {
        top = await elsewhere(top);
        await driver.pause(vm.handle);
        await driver.switchDisk(vm.handle, rootOf(top));
        await driver.resume(vm.handle);
      }
      await driver.flattenDisk(vm.handle, vm.basePath);
      assert.equal(await driver.rootDiskPath(vm.handle), rootOf(top));
      assert.deepEqual(await driver.status(vm.handle), { state: 'running' });
      const { stdout } = await runCommand('qemu-img', ['info', '--force-share', '--output=json', rootOf(top)]);
      const info: { readonly 'backing-filename'?: string } = JSON.parse(stdout);
      assert.equal(info['backing-filename'], basename(vm.basePath));
      const next = rootOf(await elsewhere(top));
      await driver.pause(vm.handle);
      await driver.switchDisk(vm.handle, next);
      assert.equal(await driver.rootDiskPath(vm.handle), next);
    });

    test('answers vm_died to a save and to questions about the disk of a VM that is gone', async () => {
      const driver = stage.driver();
      const { machine, handle } = await startVm();
      const next = await elsewhere(machine);
      const gone = new Promise((resolve) => driver.onExit(handle, resolve));
      process.kill(handle.process.pid, 'SIGKILL');
      await gone;
      await rejectsWith('vm_died', driver.save(handle, machine.memoryPath, filesOf(machine)));
      if (takesLayers(driver)) {
        await rejectsWith('vm_died', driver.rootDiskPath(handle));
        await rejectsWith('vm_died', driver.switchDisk(handle, rootOf(next)));
      }
      await driver.destroy(handle);
      await rejectsWith('vm_died', driver.save(handle, machine.memoryPath, filesOf(machine)));
      await stage.assertNothingLeft(machine);
    });

    test('names what a state depends on in the same words each time', async () => {
      const words = await stage.driver().snapshotMachine();
      assert.match(words, /\S/);
      assert.equal(await stage.driver().snapshotMachine(), words);
      await using second = stage.another();
      assert.equal(await second.driver.snapshotMachine(), words);
    });
  });
}

async function move(files: Files, key: keyof Files): Promise<void> {
  await runCommand('mv', [files[key], `${files[key]}.moved`]);
}

async function flipLastBit(path: string): Promise<void> {
  const bytes = await readFile(path);
  await writeFile(path, bytes.with(bytes.length - 1, (bytes.at(-1) ?? 0) ^ 1));
}
