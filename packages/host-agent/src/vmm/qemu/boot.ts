import { access, constants, statfs } from 'node:fs/promises';
import { NestboxError } from '@nestbox/contract';
import { describeConsole, watchBoot } from '../boot-watchdog.ts';
import type { CgroupLimits, CgroupTree } from '../cgroup/cgroup.ts';
import type { VmSpec } from '../driver.ts';
import { endProcess } from '../end-process.ts';
import { launchDetached } from '../launch.ts';
import type { QemuAccelerator } from './accelerator.ts';
import { qemuArguments } from './command-line.ts';
import { QemuVm } from './qemu-vm.ts';
import { linkConsole, qemuRunFiles, removeRunFiles } from './run-files.ts';

export interface QemuBoot {
  readonly spec: VmSpec;
  readonly accelerator: QemuAccelerator;
  readonly cgroups: CgroupTree;
  readonly qemuBinary: string;
  /** Time for the sign of life. */
  readonly limitMs: number;
}

/** QEMU itself: code, heap, device state, page tables, stacks of its threads, and page cache of the disks to work in. */
export const QEMU_OVERHEAD_MIB = 128;
/** vCPUs, main loop and RCU, up to 64 workers for disk requests (util/thread-pool.c), and some to spare. */
const EXTRA_THREADS = 96;
/** unix(7): sun_path has 108 bytes, with the NUL at its end. */
const MAX_SOCKET_PATH_BYTES = 107;

/** What a VM may have of the host. */
export function vmLimits(spec: Pick<VmSpec, 'vcpuCount' | 'memoryMib'>, accelerator: QemuAccelerator): CgroupLimits {
  const translationMib = accelerator.kind === 'tcg' ? accelerator.translationBufferMib : 0;
  return {
    memoryBytes: (spec.memoryMib + translationMib + QEMU_OVERHEAD_MIB) * 1024 * 1024,
    // QEMU's own threads share the vCPUs' time: what the template says is all that the VM gets.
    cpuCount: spec.vcpuCount,
    pidCount: spec.vcpuCount + EXTRA_THREADS,
  };
}

/** Throws not_set_up for what cannot boot, before anything is begun. */
export async function checkSpec(spec: VmSpec): Promise<void> {
  const { qmpSocket } = qemuRunFiles(spec.runDir);
  if (Buffer.byteLength(qmpSocket) > MAX_SOCKET_PATH_BYTES)
    throw new NestboxError(
      'not_set_up',
      `The path ${qmpSocket} is longer than the ${MAX_SOCKET_PATH_BYTES} bytes that a unix socket's may have.`,
    );
  for (const path of [spec.kernelPath, spec.initrdPath, ...spec.disks.map((disk) => disk.path)]) {
    await access(path, constants.R_OK).catch((cause: unknown) => {
      throw new NestboxError('not_set_up', `${path} is missing or cannot be read. Run \`nestbox setup\`.`, { cause });
    });
  }
}

/**
 * One boot. Undefined when the guest showed no sign of life in time. Then, and after any error, nothing is left of it.
 * Throws NestboxError (vm_died, host_disk_full, sandbox_unreachable), the signal's reason, or what the system threw.
 */
export async function bootOnce(boot: QemuBoot, signal?: AbortSignal): Promise<QemuVm | undefined> {
  const { spec, accelerator, cgroups, limitMs } = boot;
  signal?.throwIfAborted();
  await using undo = new AsyncDisposableStack();
  await removeRunFiles(spec.runDir);
  undo.defer(() => removeRunFiles(spec.runDir));
  const consoleStart = await linkConsole(spec.runDir, spec.consolePath);
  const cgroup = await cgroups.create(spec.sandboxId, vmLimits(spec, accelerator));
  undo.defer(async () => cgroup?.remove());
  const { identity, exited } = await launchDetached({
    command: [boot.qemuBinary, ...qemuArguments(spec, accelerator)],
    cgroupProcsFiles: cgroup?.procsFiles ?? [],
    netnsName: spec.network.netnsName,
    logPath: qemuRunFiles(spec.runDir).log,
    // Nothing of our environment: it may hold secrets, and QEMU needs none of it.
    env: { PATH: process.env.PATH ?? '/usr/sbin:/usr/bin:/sbin:/bin' },
  });
  undo.defer(() => endProcess(identity, { graceMs: 0 }));
  const handle = {
    sandboxId: spec.sandboxId,
    vmm: 'qemu',
    process: identity,
    runDir: spec.runDir,
    cgroup: cgroup?.path,
  } as const;
  const vm = new QemuVm(handle, cgroup, exited);
  undo.defer(() => vm.close());

  const outcome = await watchBoot({ consolePath: spec.consolePath, consoleStart, exited, limitMs }, signal);
  if (outcome === 'silent') {
    await checkConsoleSpace(spec.consolePath);
    return undefined;
  }
  if (outcome === 'gone') throw await vmDied(vm, spec.consolePath, consoleStart);
  await vm.connect().catch(async (error: unknown) => {
    throw (await vm.isGoneSoon()) ? await vmDied(vm, spec.consolePath, consoleStart) : vmmUnreachable(error);
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
