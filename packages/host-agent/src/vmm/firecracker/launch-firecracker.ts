import { chown, mkdir, open, rm, stat, symlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { requireExactHoles } from '../../memory/sparse-memory.ts';
import { awaitSocket } from '../api/await-socket.ts';
import type { ApiLaunch, LaunchedApi } from '../api/boot-by-api.ts';
import type { ApiDeadlines } from '../api/deadlines.ts';
import type { CgroupTree } from '../cgroup/cgroup.ts';
import { beginConsole } from '../console.ts';
import type { VmMachine } from '../driver.ts';
import { openTunDevice, TUN_DEVICE } from '../jail/hand-over.ts';
import { type Jail, type JailMount, sameMount } from '../jail/jail.ts';
import { handOverFiles } from '../jail/vm-files.ts';
import { draftPath } from '../process/draft.ts';
import { launchVmm } from '../process/launch-vmm.ts';
import type { VmmProgram } from '../process/program.ts';
import { type VmmNeeds, vmLimits } from '../process/vm-limits.ts';
import { FirecrackerVm } from './firecracker-vm.ts';
import { diskJailPath, firecrackerRunFiles, JAIL_PATHS, removeRunFiles } from './run-files.ts';

/** What every start needs of this host. */
export interface FirecrackerHost {
  readonly program: VmmProgram;
  /** Path of its jailer; undefined: bubblewrap makes the jail. */
  readonly jailer: string | undefined;
  readonly cgroups: CgroupTree;
  /** /dev/kvm. */
  readonly kvmDevice: string;
  readonly deadlines: ApiDeadlines;
}

export interface FirecrackerLaunch extends ApiLaunch {
  /** Makes what else the launch needs; the file of changed pages is there, all holes. */
  readonly prepare?: (changesPath: string) => Promise<void>;
}

const NEEDS: VmmNeeds = {
  /** Firecracker itself takes less than 5 MiB; the rest is page tables, logs in /run, and page cache to work in. */
  overheadMib: 64,
  /** API, main loop, and some to spare. */
  extraThreads: 16,
};

/**
 * Starts Firecracker in its jail, cgroup and network namespace and waits for its API. `undo` gets what ends it again and leaves
 * nothing. Throws VmmUnavailableError, VmmFaultError, NestboxError, or the signal's reason.
 */
export async function launchFirecracker(
  host: FirecrackerHost,
  launch: FirecrackerLaunch,
  undo: AsyncDisposableStack,
): Promise<LaunchedApi<FirecrackerVm>> {
  const { machine } = launch;
  let consoleStart = 0;
  const launched = await launchVmm(
    {
      vmm: 'firecracker',
      machine,
      cgroups: host.cgroups,
      limits: vmLimits(machine, NEEDS),
      prepare: async () => {
        consoleStart = await makeFiles(launch);
        return { jail: await firecrackerJail(host, launch) };
      },
      command: [
        ...host.program.command,
        ...['--api-sock', firecrackerRunFiles(machine.runDir).apiSocket],
        // The jailer says it.
        ...(host.jailer === undefined ? ['--id', machine.vmId] : []),
      ],
      // The guest's serial console is Firecracker's standard output.
      logPath: machine.consolePath,
      env: {},
      removeRunFiles,
    },
    undo,
  );
  return { vm: new FirecrackerVm(launched, host.deadlines.callMs), consoleStart, exited: launched.exited };
}

/** Waits for the API, then has the logs collected. */
export async function openApi(vm: FirecrackerVm, deadlines: ApiDeadlines, signal?: AbortSignal): Promise<void> {
  const { apiSocket } = firecrackerRunFiles(vm.handle.runDir);
  await awaitSocket(apiSocket, () => vm.isAlive, { deadlineMs: deadlines.socketMs }, signal);
  await vm.collectLogs(signal);
}

/** Makes every file that it writes to. Returns where this start's output begins in the console log. */
async function makeFiles({ machine, consoleNote, readFiles, prepare }: FirecrackerLaunch): Promise<number> {
  const { runDir, userId, consolePath, memoryMib, network } = machine;
  const { controlDir, jailBase, log, metrics, ...links } = firecrackerRunFiles(runDir);
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
  await mkdir(jailBase, { mode: 0o711 });
  await mkdir(controlDir, { mode: 0o700 });
  await chown(controlDir, userId, userId);
  const consoleStart = await beginConsole(consolePath, consoleNote);
  handOverFiles(filesOf(machine, readFiles), userId);
  if (network.netnsName !== undefined) await openTunDevice();
  return consoleStart;
}

async function makeFile(path: string, bytes = 0): Promise<void> {
  await using file = await open(path, 'wx', 0o600);
  await file.truncate(bytes);
}

/** Each file by itself, at its place below /vm. */
function filesOf(machine: VmMachine, readFiles: FirecrackerLaunch['readFiles']): JailMount[] {
  const { log, metrics } = firecrackerRunFiles(machine.runDir);
  const writable = (hostPath: string, jailPath: string) => ({ hostPath, jailPath, writable: true });
  return [
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
  ];
}

async function firecrackerJail(
  { program, jailer, kvmDevice }: FirecrackerHost,
  { machine, readFiles }: FirecrackerLaunch,
): Promise<Jail> {
  const { controlDir, jailBase } = firecrackerRunFiles(machine.runDir);
  return {
    userId: machine.userId,
    groupIds: [(await stat(kvmDevice)).gid],
    mounts: [...program.mounts, sameMount(controlDir, true), ...filesOf(machine, readFiles)],
    devices: [kvmDevice, ...(machine.network.netnsName === undefined ? [] : [TUN_DEVICE])],
    jailer: jailer === undefined ? undefined : { path: jailer, id: machine.vmId, baseDir: jailBase },
  };
}
