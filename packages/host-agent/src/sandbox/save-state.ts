import { syncFile } from '@nestbox/kit';
import { allSettled } from '../all-settled.ts';
import { machineFiles } from '../storage/machine-folder.ts';
import { type DiskSeal, type SnapshotManifest, writeManifest } from '../storage/snapshot-manifest.ts';
import type { RunningVm } from './lifecycle.ts';
import type { LiveSandbox } from './live-sandbox.ts';
import type { SandboxContext } from './sandbox-context.ts';
import type { Trace } from './trace.ts';

/** Writes what a sandbox's frozen VM is besides its disk into a folder: devices, and pages on top of its memory image. */
export async function saveInto(
  { driver, layout }: SandboxContext,
  sandbox: LiveSandbox,
  vm: RunningVm,
  folder: string,
  trace: Trace,
): Promise<void> {
  const { devices, pages } = machineFiles(folder);
  const { memory } = machineFiles(layout.sandboxDir(sandbox.id));
  await trace.measure('save', () => driver.save(vm.handle, memory, { devicesPath: devices, pagesPath: pages }));
}

/** Writes the manifest of what `saveInto` wrote and makes it durable. */
export async function sealState(
  { driver }: SandboxContext,
  { identity }: LiveSandbox,
  { machine }: RunningVm,
  folder: string,
  disk: DiskSeal,
): Promise<SnapshotManifest> {
  const { vcpuCount, memoryMib, diskMib } = identity;
  const { devices, pages } = machineFiles(folder);
  const words = await driver.snapshotMachine();
  const [manifest] = await allSettled([
    writeManifest(folder, {
      machine: words,
      vcpuCount,
      memoryMib,
      diskMib,
      kernelVersion: machine.kernelVersion,
      agentDiskHash: machine.agentDiskHash,
      envdVersion: machine.envdVersion,
      createdAtMs: Date.now(),
      hasPages: true,
      disk,
    }),
    syncFile(devices),
    syncFile(pages),
  ]);
  return manifest;
}
