import { closeSync, openSync } from 'node:fs';
import { rm, symlink } from 'node:fs/promises';
import { NestboxError } from '@nestbox/contract';
import { CommandError, runCommand } from '@nestbox/kit';
import { damaged, openPageFile, writeFully } from '../../memory/page-file.ts';
import { PAGE_BYTES } from '../../memory/page-runs.ts';
import { VmmFaultError } from '../api/vmm-api.ts';
import type { VmMachine, VmState } from '../driver.ts';
import { checkMachine } from './check-machine.ts';
import { loadSnapshot } from './firecracker-calls.ts';
import type { FirecrackerVm } from './firecracker-vm.ts';
import { draftPath, type FirecrackerHost, launchFirecracker, openApi } from './launch-firecracker.ts';
import { firecrackerRunFiles, JAIL_PATHS } from './run-files.ts';

export interface FirecrackerRestore extends FirecrackerHost {
  readonly machine: VmMachine;
  readonly state: VmState;
}

/**
 * Starts a Firecracker with a saved state; its vCPUs stand still. Its devices read the guest's memory while they are loaded, so
 * the memory must be complete by then: changed pages go into a copy of the image first (a reflink where the file system can), which has no name
 * any more once it is mapped. After any error nothing is left.
 */
export async function restoreVm(restore: FirecrackerRestore, signal?: AbortSignal): Promise<FirecrackerVm> {
  const { machine, state } = restore;
  const { pagesPath } = state;
  signal?.throwIfAborted();
  await checkMachine(machine, [state.devicesPath, ...(pagesPath === undefined ? [] : [pagesPath])]);
  const memoryPath = pagesPath === undefined ? machine.memoryPath : draftPath(machine, 'memory');
  const makeMemory = async (pages: string, changesPath: string) => {
    // Linked first: what a crash leaves half-made is found again.
    await symlink(memoryPath, firecrackerRunFiles(machine.runDir).memory);
    await copySparse(machine.memoryPath, memoryPath, signal);
    await applyPages(pages, memoryPath, machine, signal);
    // The next state is told from the image again, so it begins with what this one has on top.
    await applyPages(pages, changesPath, machine, signal);
  };
  await using undo = new AsyncDisposableStack();
  const { vm } = await launchFirecracker(
    restore,
    {
      machine,
      consoleNote: '[nestbox: restore]',
      readFiles: [
        { hostPath: memoryPath, jailPath: JAIL_PATHS.memory },
        { hostPath: state.devicesPath, jailPath: JAIL_PATHS.state },
      ],
      ...(pagesPath === undefined ? {} : { prepare: (changesPath: string) => makeMemory(pagesPath, changesPath) }),
    },
    undo,
  );
  try {
    await openApi(vm, restore.deadlines, signal);
    const metadata = machine.network.netnsName === undefined ? undefined : { sandbox_id: machine.vmId };
    await loadSnapshot(vm.api, { devicesPath: JAIL_PATHS.state, memoryPath: JAIL_PATHS.memory }, metadata, signal);
  } catch (error) {
    signal?.throwIfAborted();
    if (error instanceof VmmFaultError && isDamage(error.fault))
      throw new NestboxError('snapshot_damaged', `Firecracker refuses the state ${state.devicesPath}: ${error.fault}`, {
        cause: error,
      });
    throw await vm.explainFailure(error);
  }
  if (pagesPath !== undefined) await rm(memoryPath);
  signal?.throwIfAborted();
  undo.move();
  return vm;
}

/** In the words of Firecracker's persist.rs; other refusals are about this host: a TAP, a disk. */
function isDamage(fault: string): boolean {
  return /snapshot state|guest memory|crc|version/i.test(fault);
}

async function copySparse(from: string, to: string, signal: AbortSignal | undefined): Promise<void> {
  await rm(to, { force: true });
  const options = signal === undefined ? {} : { signal };
  await runCommand('cp', ['--reflink=auto', '--sparse=always', '--', from, to], options).catch((cause: unknown) => {
    const isFull = cause instanceof CommandError && cause.stderr.includes('No space left on device');
    throw isFull
      ? new NestboxError('host_disk_full', `The host's disk is full: ${to} cannot be written.`, { cause })
      : cause;
  });
}

async function applyPages(
  pagesPath: string,
  target: string,
  { memoryMib }: VmMachine,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { table, forEachPart } = openPageFile(pagesPath);
  if (table.memoryBytes !== memoryMib * 2 ** 20)
    throw damaged(pagesPath, 'it is of a guest with another size of memory');
  const file = openSync(target, 'r+');
  try {
    await forEachPart((firstPage, part) => writeFully(file, part, firstPage * PAGE_BYTES), signal);
  } finally {
    closeSync(file);
  }
}
