import { constants, statSync } from 'node:fs';
import { copyFile, readlink, rm } from 'node:fs/promises';
import { NestboxError } from '@nestbox/contract';
import { writePageFile } from '../../memory/page-file.ts';
import { SparseMemory } from '../../memory/sparse-memory.ts';
import type { SavedState, VmState } from '../driver.ts';
import { keepFile } from '../jail/hand-over.ts';
import { createSnapshot } from './firecracker-calls.ts';
import type { FirecrackerVm } from './firecracker-vm.ts';
import { firecrackerRunFiles, JAIL_PATHS } from './run-files.ts';

/** Count up when firecracker-calls.ts changes in a way that a saved state notices. */
export const MACHINE_REVISION = 1;

/**
 * Writes the state of a paused VM. Firecracker adds the pages that changed since the last time to the file of changes, which so
 * holds all that differ from the image, however many saves there were. Throws VmmFaultError and VmmUnavailableError, and what the system throws.
 */
export async function saveState(
  vm: FirecrackerVm,
  memoryPath: string,
  { devicesPath, pagesPath }: VmState,
  signal?: AbortSignal,
): Promise<SavedState> {
  const links = firecrackerRunFiles(vm.handle.runDir);
  const memoryBytes = statSync(memoryPath).size;
  await createSnapshot(vm.api, 'Diff', { devicesPath: JAIL_PATHS.devices, memoryPath: JAIL_PATHS.changes }, signal);
  // Its own two files, at the places where we made them: it cannot put a link there.
  const [devices, changes] = await Promise.all([readlink(links.devices), readlink(links.changes)]);
  if (statSync(devices).size === 0)
    throw new NestboxError('internal', 'Firecracker says that it has written its state, but nothing is in it.');
  await using undo = new AsyncDisposableStack();
  await copyFile(devices, devicesPath, constants.COPYFILE_EXCL);
  undo.defer(() => rm(devicesPath, { force: true }));
  keepFile(devicesPath);
  if (pagesPath === undefined) {
    undo.move();
    return { changedPages: 0 };
  }
  using memory = SparseMemory.open(changes, memoryBytes);
  const { pageCount } = await writePageFile(pagesPath, memory, signal);
  undo.move();
  return { changedPages: pageCount };
}
