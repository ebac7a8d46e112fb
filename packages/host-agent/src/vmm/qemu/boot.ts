import { requireConsoleSpace, watchBoot } from '../boot-watchdog.ts';
import type { VmMachine, VmSpec } from '../driver.ts';
import { vmmUnreachable } from '../errors.ts';
import { requireFiles, requireSocketPath } from '../process/check-machine.ts';
import { vmDied } from '../process/vm-process.ts';
import { bootArguments } from './command-line.ts';
import { launchQemu, type QemuHost } from './launch-qemu.ts';
import type { QemuVm } from './qemu-vm.ts';
import { qemuRunFiles } from './run-files.ts';

export interface QemuBoot extends QemuHost {
  readonly spec: VmSpec;
  /** Time for the sign of life. */
  readonly limitMs: number;
}

/** Throws not_set_up for what cannot start, before anything is begun. */
export async function checkMachine(machine: VmMachine, moreFiles: readonly string[]): Promise<void> {
  requireSocketPath(qemuRunFiles(machine.runDir).qmpSocket);
  await requireFiles([...moreFiles, machine.memoryPath, ...machine.disks.map((disk) => disk.path)]);
}

/**
 * One boot. Undefined when the guest showed no sign of life in time. Then, and after any error, nothing is left of it.
 * Throws NestboxError (vm_died, host_disk_full, sandbox_unreachable), the signal's reason, or what the system threw.
 */
export async function bootOnce(boot: QemuBoot, signal?: AbortSignal): Promise<QemuVm | undefined> {
  const { spec, accelerator, limitMs } = boot;
  const { consolePath } = spec;
  signal?.throwIfAborted();
  await using undo = new AsyncDisposableStack();
  const { vm, consoleStart, exited } = await launchQemu(
    boot,
    {
      machine: spec,
      arguments: bootArguments(spec, accelerator),
      consoleNote: '[nestbox: boot]',
      moreFiles: [spec.kernelPath, spec.initrdPath],
    },
    undo,
  );
  const outcome = await watchBoot({ consolePath, consoleStart, exited, limitMs }, signal);
  if (outcome === 'silent') {
    await requireConsoleSpace(consolePath);
    return undefined;
  }
  const died = async () =>
    vmDied(await vm.waitUntilGone(AbortSignal.timeout(EXPLAIN_DEADLINE_MS)), {
      path: consolePath,
      start: consoleStart,
    });
  if (outcome === 'gone') throw await died();
  await vm.connect().catch(async (error: unknown) => {
    throw (await vm.isGoneSoon()) ? await died() : vmmUnreachable(error);
  });
  signal?.throwIfAborted();
  undo.move();
  return vm;
}

const EXPLAIN_DEADLINE_MS = 1000;
