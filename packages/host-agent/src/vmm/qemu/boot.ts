import { access, constants, statfs } from 'node:fs/promises';
import { NestboxError } from '@nestbox/contract';
import { describeConsole, watchBoot } from '../boot-watchdog.ts';
import type { VmMachine, VmSpec } from '../driver.ts';
import { bootArguments } from './command-line.ts';
import { launchQemu, type QemuHost } from './launch-qemu.ts';
import type { QemuVm } from './qemu-vm.ts';
import { qemuRunFiles } from './run-files.ts';

export interface QemuBoot extends QemuHost {
  readonly spec: VmSpec;
  /** Time for the sign of life. */
  readonly limitMs: number;
}

/** unix(7): sun_path has 108 bytes, with the NUL at its end. */
const MAX_SOCKET_PATH_BYTES = 107;

/** Throws not_set_up for what cannot start, before anything is begun. */
export async function checkMachine(machine: VmMachine, moreFiles: readonly string[]): Promise<void> {
  const { qmpSocket } = qemuRunFiles(machine.runDir);
  if (Buffer.byteLength(qmpSocket) > MAX_SOCKET_PATH_BYTES)
    throw new NestboxError(
      'not_set_up',
      `The path ${qmpSocket} is longer than the ${MAX_SOCKET_PATH_BYTES} bytes that a unix socket's may have.`,
    );
  const files = [...moreFiles, machine.memoryPath, ...machine.disks.map((disk) => disk.path)];
  await Promise.all(
    files.map((path) =>
      access(path, constants.R_OK).catch((cause: unknown) => {
        throw new NestboxError('not_set_up', `${path} is missing or cannot be read. Run \`nestbox setup\`.`, { cause });
      }),
    ),
  );
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
    await checkConsoleSpace(consolePath);
    return undefined;
  }
  if (outcome === 'gone') throw await vmDied(vm, consolePath, consoleStart);
  await vm.connect().catch(async (error: unknown) => {
    throw (await vm.isGoneSoon()) ? await vmDied(vm, consolePath, consoleStart) : vmmUnreachable(error);
  });
  signal?.throwIfAborted();
  undo.move();
  return vm;
}

/** A guest whose console log finds no room on the host's disk looks silent. Throws host_disk_full. */
async function checkConsoleSpace(consolePath: string): Promise<void> {
  if ((await statfs(consolePath)).bavail > 0) return;
  throw new NestboxError('host_disk_full', `The host's disk is full: ${consolePath} cannot be written.`);
}

const EXPLAIN_DEADLINE_MS = 1000;

async function vmDied(vm: QemuVm, consolePath: string, consoleStart: number): Promise<NestboxError> {
  const reason = await vm.waitUntilGone(AbortSignal.timeout(EXPLAIN_DEADLINE_MS));
  const code = reason.includes('No space left on device') ? 'host_disk_full' : 'vm_died';
  return new NestboxError(code, `${reason} ${await describeConsole(consolePath, consoleStart)}`);
}

export function vmmUnreachable(cause: unknown): NestboxError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new NestboxError('sandbox_unreachable', `The VM is there, but its manager does not answer: ${why}`, { cause });
}
