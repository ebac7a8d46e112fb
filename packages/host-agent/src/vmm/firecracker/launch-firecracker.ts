import { chown, mkdir, open, rm, stat, symlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { requireExactHoles } from '../../memory/sparse-memory.ts';
import { awaitSocket } from '../api/await-socket.ts';
import type { CgroupLimits, CgroupTree } from '../cgroup/cgroup.ts';
import type { VmMachine } from '../driver.ts';
import { endProcess } from '../end-process.ts';
import { giveFile, keepFile, letThrough, openTunDevice, TUN_DEVICE } from '../jail/hand-over.ts';
import { type Jail, type JailMount, sameMount } from '../jail/jail.ts';
import { launchDetached, type ProcessExit } from '../launch.ts';
import { FirecrackerVm, type VmDeadlines } from './firecracker-vm.ts';
import { diskJailPath, firecrackerRunFiles, JAIL_PATHS, removeRunFiles } from './run-files.ts';

/** The program; a stand-in may need words before its own and more files. */
export interface FirecrackerProgram {
  /** Absolute path first. */
  readonly command: readonly [string, ...string[]];
  readonly mounts: readonly JailMount[];
}

/** What every start needs of this host. */
export interface FirecrackerHost {
  readonly program: FirecrackerProgram;
  readonly cgroups: CgroupTree;
  /** /dev/kvm. */
  readonly kvmDevice: string;
  readonly deadlines: VmDeadlines;
}

export interface FirecrackerLaunch {
  readonly machine: VmMachine;
  /** First line of this start in the console log. */
  readonly consoleNote: string;
  /** Files that it reads besides the disks. */
  readonly readFiles: readonly { readonly hostPath: string; readonly jailPath: string }[];
  /** Makes what else the launch needs; the file of changed pages is there, all holes. */
  readonly prepare?: (changesPath: string) => Promise<void>;
}

export interface LaunchedFirecracker {
  readonly vm: FirecrackerVm;
  /** Where this start's output begins in the console log, in bytes. */
  readonly consoleStart: number;
  readonly exited: Promise<ProcessExit>;
}

/** Firecracker itself takes less than 5 MiB; the rest is page tables, logs in /run, and page cache to work in. */
const OVERHEAD_MIB = 64;
/** API, main loop, and some to spare. */
const EXTRA_THREADS = 16;

function vmLimits({ vcpuCount, memoryMib }: VmMachine): CgroupLimits {
  return {
    memoryBytes: (memoryMib + OVERHEAD_MIB) * 2 ** 20,
    cpuCount: vcpuCount,
    pidCount: vcpuCount + EXTRA_THREADS,
  };
}

/** Files of a VM's own beside its root disk, gone with it. */
export function draftPath({ disks, memoryPath, vmId }: VmMachine, what: 'changes' | 'devices' | 'memory'): string {
  return join(dirname(disks[0]?.path ?? memoryPath), `${vmId}.${what}`);
}

/**
 * Starts Firecracker in its jail, cgroup and network namespace and waits for its API. `undo` gets what ends it again and leaves
 * nothing. Throws VmmUnavailableError, VmmFaultError, NestboxError, or the signal's reason.
 */
export async function launchFirecracker(
  host: FirecrackerHost,
  launch: FirecrackerLaunch,
  undo: AsyncDisposableStack,
): Promise<LaunchedFirecracker> {
  const { machine } = launch;
  const { runDir, vmId, consolePath } = machine;
  const files = firecrackerRunFiles(runDir);
  await removeRunFiles(runDir);
  undo.defer(() => removeRunFiles(runDir));
  const consoleStart = await makeFiles(launch);
  const jail = await firecrackerJail(host, launch);
  const cgroup = await host.cgroups.create(vmId, vmLimits(machine));
  undo.defer(async () => cgroup?.remove());
  const { identity, exited } = await launchDetached({
    command: [...host.program.command, '--api-sock', files.apiSocket, '--id', vmId],
    cgroup,
    jail,
    netnsName: machine.network.netnsName,
    // The guest's serial console is Firecracker's standard output.
    logPath: consolePath,
    env: {},
  });
  undo.defer(() => endProcess(identity, { graceMs: 0 }));
  const handle = { vmId, vmm: 'firecracker' as const, process: identity, runDir, cgroup: cgroup?.path };
  return { vm: new FirecrackerVm(handle, { cgroup, exited, deadlines: host.deadlines }), consoleStart, exited };
}

/** Waits for the API, then has the logs collected. */
export async function openApi(vm: FirecrackerVm, deadlines: VmDeadlines, signal?: AbortSignal): Promise<void> {
  const { apiSocket } = firecrackerRunFiles(vm.handle.runDir);
  await awaitSocket(apiSocket, () => vm.isAlive, { deadlineMs: deadlines.socketMs }, signal);
  await vm.collectLogs(signal);
}

/**
 * Makes every file that it writes to, and gives it to its user; what is shared with other VMs belongs to root and is read-only.
 * Returns where this start's output begins in the console log.
 */
async function makeFiles({ machine, consoleNote, readFiles, prepare }: FirecrackerLaunch): Promise<number> {
  const { runDir, userId, disks, consolePath, memoryMib, network } = machine;
  const { controlDir, log, metrics, ...links } = firecrackerRunFiles(runDir);
  const changes = draftPath(machine, 'changes');
  const devices = draftPath(machine, 'devices');
  requireExactHoles(dirname(changes));
  // Linked first: what a crash leaves half-made is found again.
  await symlink(changes, links.changes);
  await symlink(devices, links.devices);
  await symlink(consolePath, links.console);
  for (const path of [changes, devices]) await rm(path, { force: true });
  await makeFile(changes, memoryMib * 2 ** 20);
  await Promise.all([devices, log, metrics].map((path) => makeFile(path)));
  await prepare?.(changes);
  await mkdir(controlDir, { mode: 0o700 });
  await chown(controlDir, userId, userId);
  await using console = await open(consolePath, 'a', 0o600);
  await console.write(`${consoleNote}\n`);
  const written = disks.filter((disk) => !disk.readOnly).map((disk) => disk.path);
  const read = disks.filter((disk) => disk.readOnly).map((disk) => disk.path);
  await Promise.all([
    ...[...written, changes, devices, log, metrics].map((path) => giveFile(path, userId)),
    ...[...read, ...readFiles.map(({ hostPath }) => hostPath)].map(keepFile),
    letThrough(dirname(changes)),
    ...(network.netnsName === undefined ? [] : [openTunDevice()]),
  ]);
  return (await console.stat()).size;
}

async function makeFile(path: string, bytes = 0): Promise<void> {
  await using file = await open(path, 'wx', 0o600);
  await file.truncate(bytes);
}

/** Each file by itself at its place below /vm, and the one folder for the socket. */
async function firecrackerJail({ program, kvmDevice }: FirecrackerHost, launch: FirecrackerLaunch): Promise<Jail> {
  const { machine, readFiles } = launch;
  const { controlDir, log, metrics } = firecrackerRunFiles(machine.runDir);
  const writable = (hostPath: string, jailPath: string) => ({ hostPath, jailPath, writable: true });
  return {
    userId: machine.userId,
    groupIds: [(await stat(kvmDevice)).gid],
    mounts: [
      ...program.mounts,
      sameMount(controlDir, true),
      ...machine.disks.map(({ path, readOnly }, index) => ({
        hostPath: path,
        jailPath: diskJailPath(index),
        writable: !readOnly,
      })),
      ...readFiles.map((file) => ({ ...file, writable: false })),
      writable(log, JAIL_PATHS.log),
      writable(metrics, JAIL_PATHS.metrics),
      writable(draftPath(machine, 'changes'), JAIL_PATHS.changes),
      writable(draftPath(machine, 'devices'), JAIL_PATHS.devices),
    ],
    devices: [kvmDevice, ...(machine.network.netnsName === undefined ? [] : [TUN_DEVICE])],
  };
}
