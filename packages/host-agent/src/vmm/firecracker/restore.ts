import { rm, symlink } from 'node:fs/promises';
import { NestboxError } from '@nestbox/contract';
import { applyPagesTo, copyMemory } from '../../memory/memory-copy.ts';
import { VmmFaultError } from '../api/vmm-api.ts';
import type { VmMachine, VmState } from '../driver.ts';
import { draftPath } from '../process/draft.ts';
import { checkMachine } from './check-machine.ts';
import { loadSnapshot } from './firecracker-calls.ts';
import type { FirecrackerVm } from './firecracker-vm.ts';
import { type FirecrackerHost, launchFirecracker, openApi } from './launch-firecracker.ts';
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
    await copyMemory(machine.memoryPath, memoryPath, signal);
    await applyPagesTo(memoryPath, pages, machine.memoryMib, signal);
    // The next state is told from the image again, so it begins with what this one has on top.
    await applyPagesTo(changesPath, pages, machine.memoryMib, signal);
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
