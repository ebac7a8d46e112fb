import { chown, mkdir, open, rm, stat, symlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { awaitSocket } from '../api/await-socket.ts';
import type { ApiLaunch, LaunchedApi } from '../api/boot-by-api.ts';
import type { ApiDeadlines } from '../api/deadlines.ts';
import type { CgroupTree } from '../cgroup/cgroup.ts';
import { beginConsole } from '../console.ts';
import type { VmMachine } from '../driver.ts';
import { letThrough, openTunDevice, TUN_DEVICE } from '../jail/hand-over.ts';
import { type Jail, type JailMount, sameMount } from '../jail/jail.ts';
import { handOverFiles } from '../jail/vm-files.ts';
import { draftPath } from '../process/draft.ts';
import { launchVmm } from '../process/launch-vmm.ts';
import type { VmmProgram } from '../process/program.ts';
import { type VmmNeeds, vmLimits } from '../process/vm-limits.ts';
import { CloudHypervisorVm } from './cloud-hypervisor-vm.ts';
import {
  apiSocketArguments,
  cloudHypervisorRunFiles,
  diskJailPath,
  interfaceJailPath,
  JAIL_PATHS,
  removeRunFiles,
} from './run-files.ts';
import type { CloudHypervisorVersion } from './version.ts';

/** What every start needs of this host. */
export interface CloudHypervisorHost {
  readonly program: VmmProgram;
  readonly version: CloudHypervisorVersion;
  readonly cgroups: CgroupTree;
  /** /dev/kvm. */
  readonly kvmDevice: string;
  /** /dev/userfaultfd where memory is restored on demand. */
  readonly faultDevice: string | undefined;
  readonly deadlines: ApiDeadlines;
}

export interface CloudHypervisorLaunch extends ApiLaunch {
  /** Makes what else the launch needs, files that it reads among it. */
  readonly prepare?: () => Promise<void>;
}

const NEEDS: VmmNeeds = {
  /** Cloud Hypervisor itself, page tables, and page cache to work in. */
  overheadMib: 128,
  /** API, event monitor, signals, a thread for each device and queue, and some to spare. */
  extraThreads: 48,
};
/** The open file that a launch hands over. */
const EVENTS_DESCRIPTOR = 3;

/**
 * Starts Cloud Hypervisor in its jail, cgroup and network namespace; it has no VM yet. `undo` gets what ends it again and leaves
 * nothing. Throws NestboxError, or the signal's reason.
 */
export async function launchCloudHypervisor(
  host: CloudHypervisorHost,
  launch: CloudHypervisorLaunch,
  undo: AsyncDisposableStack,
): Promise<LaunchedApi<CloudHypervisorVm>> {
  const { machine } = launch;
  const { runDir } = machine;
  const { events } = cloudHypervisorRunFiles(runDir);
  // Ours; it has its own by then.
  await using opened = new AsyncDisposableStack();
  let consoleStart = 0;
  const launched = await launchVmm(
    {
      vmm: 'cloud-hypervisor',
      machine,
      cgroups: host.cgroups,
      limits: vmLimits(machine, NEEDS),
      prepare: async () => {
        consoleStart = await makeFiles(launch);
        // Appended to, so that it can be cut like the console.
        const eventsFile = opened.use(await open(events, 'a', 0o600));
        return { jail: await cloudHypervisorJail(host, launch), inheritedFile: eventsFile.fd };
      },
      command: [
        ...host.program.command,
        ...apiSocketArguments(runDir),
        ...['--seccomp', 'true', '--log-file', JAIL_PATHS.log, '--event-monitor', `fd=${EVENTS_DESCRIPTOR}`],
      ],
      // The guest's serial console is Cloud Hypervisor's standard output.
      logPath: machine.consolePath,
      env: {},
      removeRunFiles,
    },
    undo,
  );
  const vm = new CloudHypervisorVm(launched, host.deadlines.callMs);
  undo.defer(() => vm.close());
  return { vm, consoleStart, exited: launched.exited };
}

export async function openApi(vm: CloudHypervisorVm, deadlines: ApiDeadlines, signal?: AbortSignal): Promise<void> {
  const { apiSocket } = cloudHypervisorRunFiles(vm.handle.runDir);
  await awaitSocket(apiSocket, () => vm.isAlive, { deadlineMs: deadlines.socketMs }, signal);
}

/** Makes every file and folder that it writes to. Returns where this start's output begins in the console log. */
async function makeFiles({ machine, consoleNote, readFiles, prepare }: CloudHypervisorLaunch): Promise<number> {
  const { runDir, userId, consolePath, network } = machine;
  const { controlDir, log, network: networkDir, ...links } = cloudHypervisorRunFiles(runDir);
  const snapshot = draftPath(machine, 'snapshot');
  // Linked first: what a crash leaves half-made is found again.
  await symlink(snapshot, links.snapshot);
  await symlink(consolePath, links.console);
  await rm(snapshot, { recursive: true, force: true });
  await prepare?.();
  await (await open(log, 'wx', 0o600)).close();
  await mkdir(networkDir, { mode: 0o555 });
  for (const folder of [controlDir, snapshot]) {
    await mkdir(folder, { mode: 0o700 });
    await chown(folder, userId, userId);
  }
  const consoleStart = await beginConsole(consolePath, consoleNote);
  handOverFiles(filesOf(machine, readFiles), userId);
  await letThrough(dirname(snapshot));
  if (network.netnsName !== undefined) await openTunDevice();
  return consoleStart;
}

/** Each file by itself, at its place below /vm. */
function filesOf(machine: VmMachine, readFiles: CloudHypervisorLaunch['readFiles']): JailMount[] {
  const { log } = cloudHypervisorRunFiles(machine.runDir);
  return [
    ...machine.disks.map(({ path, readOnly }, index) => ({
      hostPath: path,
      jailPath: diskJailPath(index),
      writable: !readOnly,
    })),
    ...readFiles.map((file) => ({ ...file, writable: false })),
    { hostPath: log, jailPath: JAIL_PATHS.log, writable: true },
  ];
}

async function cloudHypervisorJail(
  { program, kvmDevice, faultDevice }: CloudHypervisorHost,
  { machine, readFiles }: CloudHypervisorLaunch,
): Promise<Jail> {
  const { controlDir, network: networkDir } = cloudHypervisorRunFiles(machine.runDir);
  const { netnsName, tapName } = machine.network;
  const devices = [kvmDevice, ...(faultDevice === undefined ? [] : [faultDevice])];
  const groups = await Promise.all(devices.map(async (device) => (await stat(device)).gid));
  const inNetwork = netnsName !== undefined;
  return {
    userId: machine.userId,
    groupIds: [...new Set(groups)],
    mounts: [
      ...program.mounts,
      sameMount(controlDir, true),
      { hostPath: draftPath(machine, 'snapshot'), jailPath: JAIL_PATHS.snapshot, writable: true },
      ...filesOf(machine, readFiles),
      ...(inNetwork ? [{ hostPath: networkDir, jailPath: interfaceJailPath(tapName), writable: false }] : []),
    ],
    devices: [...devices, ...(inNetwork ? [TUN_DEVICE] : [])],
  };
}
