import { constants } from 'node:fs';
import { type FileHandle, open, readlink, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { NestboxError } from '@nestbox/contract';
import { ComparedMemory } from '../../memory/compared-memory.ts';
import { writePageFile } from '../../memory/page-file.ts';
import type { SavedState, VmState } from '../driver.ts';
import { snapshotVm } from './cloud-hypervisor-calls.ts';
import type { CloudHypervisorVm } from './cloud-hypervisor-vm.ts';
import { cloudHypervisorRunFiles, JAIL_PATHS } from './run-files.ts';
import { encodeDevices, type SavedDevices } from './saved-devices.ts';

/** Count up when cloud-hypervisor-calls.ts changes in a way that a saved state notices. */
export const MACHINE_REVISION = 1;

/** The names that Cloud Hypervisor gives. */
export const SNAPSHOT_NAMES = { config: 'config.json', state: 'state.json', memory: 'memory-ranges' } as const;
/** A VM's configuration and the states of its devices are some hundred KiB. */
const MAX_DEVICES_BYTES = 64 * 2 ** 20;

/**
 * Writes the state of a paused VM. Cloud Hypervisor writes all of its memory, of which what differs from the image is kept. Throws
 * VmmFaultError and VmmUnavailableError, NestboxError, and what the system throws.
 */
export async function saveState(
  vm: CloudHypervisorVm,
  memoryPath: string,
  { devicesPath, pagesPath }: VmState,
  host: Pick<SavedDevices, 'version' | 'processor'>,
  signal?: AbortSignal,
): Promise<SavedState> {
  const folder = await readlink(cloudHypervisorRunFiles(vm.handle.runDir).snapshot);
  const memoryBytes = (await stat(memoryPath)).size;
  const path = (name: keyof typeof SNAPSHOT_NAMES) => join(folder, SNAPSHOT_NAMES[name]);
  const clear = async () => {
    for (const name of ['config', 'state', 'memory'] as const) await rm(path(name), { force: true });
  };
  await clear();
  await using undo = new AsyncDisposableStack();
  undo.defer(clear);
  await snapshotVm(vm.api, JAIL_PATHS.snapshot, signal);
  const config = await readText(path('config'));
  const state = await readText(path('state'));
  await writeFile(devicesPath, encodeDevices({ ...host, config, state }), { flag: 'wx', mode: 0o600 });
  await using unfinished = new AsyncDisposableStack();
  unfinished.defer(() => rm(devicesPath, { force: true }));
  let changedPages = 0;
  if (pagesPath !== undefined) {
    await using file = await openWritten(path('memory'));
    const { size } = await file.stat();
    if (size !== memoryBytes)
      throw new NestboxError(
        'internal',
        `Cloud Hypervisor wrote ${size} bytes of memory; the guest has ${memoryBytes}.`,
      );
    const memory = await ComparedMemory.compare(file.fd, memoryPath, memoryBytes, signal);
    changedPages = (await writePageFile(pagesPath, memory, signal)).pageCount;
  }
  unfinished.move();
  return { changedPages };
}

/** Of a folder that Cloud Hypervisor writes to: it may have put a link or a pipe there. */
async function openWritten(path: string): Promise<FileHandle> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  if ((await file.stat()).isFile()) return file;
  await file.close();
  throw new NestboxError('internal', `${path}, which Cloud Hypervisor wrote, is no file.`);
}

async function readText(path: string): Promise<string> {
  await using file = await openWritten(path);
  const { size } = await file.stat();
  if (size === 0 || size > MAX_DEVICES_BYTES)
    throw new NestboxError('internal', `${path}, which Cloud Hypervisor wrote, has ${size} bytes.`);
  return file.readFile('utf8');
}
