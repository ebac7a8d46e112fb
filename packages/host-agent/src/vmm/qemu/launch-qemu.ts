import type { CgroupTree } from '../cgroup/cgroup.ts';
import type { VmMachine } from '../driver.ts';
import type { ProcessExit } from '../launch.ts';
import { launchVmm } from '../process/launch-vmm.ts';
import { type VmmNeeds, vmLimits } from '../process/vm-limits.ts';
import type { QemuAccelerator } from './accelerator.ts';
import { handOverFiles, JAILED_PRELOAD, qemuJail } from './qemu-jail.ts';
import { QemuVm } from './qemu-vm.ts';
import { linkConsole, qemuRunFiles, removeRunFiles } from './run-files.ts';

/** What every start of a QEMU needs of this host. */
export interface QemuHost {
  readonly accelerator: QemuAccelerator;
  readonly cgroups: CgroupTree;
  /** Absolute path. */
  readonly qemuBinary: string;
  /** Path of the library of read-only-open.ts. */
  readonly readOnlyOpen: string;
}

export interface QemuLaunch {
  readonly machine: VmMachine;
  readonly arguments: readonly string[];
  /** First line of this start in the console log. */
  readonly consoleNote: string;
  /** Files that it reads besides the machine's own. */
  readonly moreFiles: readonly string[];
  /** Open file that QEMU gets as descriptor 3. The caller closes its own. */
  readonly inheritedFile?: number;
}

export interface LaunchedQemu {
  readonly vm: QemuVm;
  /** Where this start's output begins in the console log, in bytes. */
  readonly consoleStart: number;
  readonly exited: Promise<ProcessExit>;
}

/** QEMU itself: code, heap, device state, page tables, stacks of its threads, and page cache of the disks to work in. */
const QEMU_OVERHEAD_MIB = 128;
/** vCPUs, main loop and RCU, up to 64 workers for disk requests (util/thread-pool.c), and some to spare. */
const EXTRA_THREADS = 96;

function needsOf(accelerator: QemuAccelerator): VmmNeeds {
  const translationMib = accelerator.kind === 'tcg' ? accelerator.translationBufferMib : 0;
  return { overheadMib: translationMib + QEMU_OVERHEAD_MIB, extraThreads: EXTRA_THREADS };
}

/** Starts QEMU in its jail, cgroup and network namespace. `undo` gets what ends it again and leaves nothing. */
export async function launchQemu(
  { accelerator, cgroups, qemuBinary, readOnlyOpen }: QemuHost,
  launch: QemuLaunch,
  undo: AsyncDisposableStack,
): Promise<LaunchedQemu> {
  const { machine, moreFiles } = launch;
  let consoleStart = 0;
  const launched = await launchVmm(
    {
      vmm: 'qemu',
      machine,
      cgroups,
      limits: vmLimits(machine, needsOf(accelerator)),
      prepare: async () => {
        consoleStart = await linkConsole(machine.runDir, machine.consolePath, launch.consoleNote);
        handOverFiles(machine, moreFiles);
        const parts = { program: qemuBinary, preload: readOnlyOpen, moreFiles };
        const jail = await qemuJail({ machine, accelerator, ...parts });
        return { jail, inheritedFile: launch.inheritedFile };
      },
      command: [qemuBinary, ...launch.arguments],
      logPath: qemuRunFiles(machine.runDir).log,
      // Nothing of our environment: it may hold secrets, and QEMU needs none of it. One heap for all threads takes less memory.
      env: { LD_PRELOAD: JAILED_PRELOAD, MALLOC_ARENA_MAX: '1' },
      removeRunFiles,
    },
    undo,
  );
  const vm = new QemuVm(launched);
  undo.defer(() => vm.close());
  return { vm, consoleStart, exited: launched.exited };
}
