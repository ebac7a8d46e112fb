import { rm, symlink, writeFile } from 'node:fs/promises';
import { NestboxError } from '@nestbox/contract';
import { applyPagesTo, copyMemory } from '../../memory/memory-copy.ts';
import { VmmFaultError } from '../api/vmm-api.ts';
import type { VmMachine, VmState } from '../driver.ts';
import { draftPath } from '../process/draft.ts';
import { checkMachine } from './check-machine.ts';
import { type MemoryRestore, restoreVm as restoreCall } from './cloud-hypervisor-calls.ts';
import type { CloudHypervisorVm } from './cloud-hypervisor-vm.ts';
import { type CloudHypervisorHost, launchCloudHypervisor, openApi } from './launch-cloud-hypervisor.ts';
import { cloudHypervisorRunFiles, JAIL_PATHS } from './run-files.ts';
import { SNAPSHOT_NAMES } from './save-state.ts';
import { configFor, readDevices } from './saved-devices.ts';

export interface CloudHypervisorRestore extends CloudHypervisorHost {
  readonly machine: VmMachine;
  readonly state: VmState;
  readonly memory: MemoryRestore;
  /** The processor of this host, in the words of the state. */
  readonly processor: string;
}

/**
 * Starts a Cloud Hypervisor with a saved state; its vCPUs stand still. It reads its memory from one file, which is the image, or a
 * copy of it with the changed pages (a reflink where the file system has it) that has no name any more once it was opened. After
 * any error nothing is left.
 */
export async function restoreVm(restore: CloudHypervisorRestore, signal?: AbortSignal): Promise<CloudHypervisorVm> {
  const { machine, state, version, processor } = restore;
  const { pagesPath, devicesPath } = state;
  signal?.throwIfAborted();
  await checkMachine(machine, [devicesPath, ...(pagesPath === undefined ? [] : [pagesPath])]);
  const devices = await readDevices(devicesPath, { version: version.text, processor });
  const config = configFor(machine, devices.config, devicesPath);
  const links = cloudHypervisorRunFiles(machine.runDir);
  const draft = async (what: 'config' | 'state' | 'memory') => {
    const path = draftPath(machine, what);
    await symlink(path, links[what]);
    await rm(path, { force: true });
    return path;
  };
  const jailPath = (name: keyof typeof SNAPSHOT_NAMES) => `${JAIL_PATHS.restore}/${SNAPSHOT_NAMES[name]}`;
  await using undo = new AsyncDisposableStack();
  const { vm } = await launchCloudHypervisor(
    restore,
    {
      machine,
      consoleNote: '[nestbox: restore]',
      readFiles: [
        { hostPath: draftPath(machine, 'config'), jailPath: jailPath('config') },
        { hostPath: draftPath(machine, 'state'), jailPath: jailPath('state') },
        {
          hostPath: pagesPath === undefined ? machine.memoryPath : draftPath(machine, 'memory'),
          jailPath: jailPath('memory'),
        },
      ],
      prepare: async () => {
        await writeFile(await draft('config'), config, { flag: 'wx' });
        await writeFile(await draft('state'), devices.state, { flag: 'wx' });
        if (pagesPath === undefined) return;
        const memory = await draft('memory');
        await copyMemory(machine.memoryPath, memory, signal);
        await applyPagesTo(memory, pagesPath, machine.memoryMib, signal);
      },
    },
    undo,
  );
  try {
    await openApi(vm, restore.deadlines, signal);
    await restoreCall(vm.api, JAIL_PATHS.restore, restore.memory, signal);
  } catch (error) {
    signal?.throwIfAborted();
    if (error instanceof VmmFaultError && !isOfThisHost(error.fault))
      throw new NestboxError('snapshot_damaged', `Cloud Hypervisor refuses the state ${devicesPath}: ${error.fault}`, {
        cause: error,
      });
    throw await vm.explainFailure(error);
  }
  for (const what of ['config', 'state', 'memory'] as const) await rm(draftPath(machine, what), { force: true });
  signal?.throwIfAborted();
  undo.move();
  return vm;
}

/** Refusals that are about a TAP, a disk or KVM, and not about what was saved. */
function isOfThisHost(fault: string): boolean {
  return /\btap|disk|No space left|Permission denied|userfaultfd|uffd|\/dev\//i.test(fault);
}
