import type { CgroupLimits, CgroupTree, VmCgroup } from '../cgroup/cgroup.ts';
import type { VmHandle, VmMachine, VmmName } from '../driver.ts';
import { endProcess } from '../end-process.ts';
import type { Jail } from '../jail/jail.ts';
import { launchDetached, type ProcessExit } from '../launch.ts';

/** A VMM that is to be started for a machine. */
export interface VmmLaunch {
  readonly vmm: VmmName;
  readonly machine: VmMachine;
  readonly cgroups: CgroupTree;
  readonly limits: CgroupLimits;
  /** Makes the files that it needs; the run folder is empty by then. */
  readonly prepare: () => Promise<VmmSurroundings>;
  readonly command: readonly [string, ...string[]];
  /** Its standard output and error are appended here. */
  readonly logPath: string;
  readonly env: Readonly<Record<string, string>>;
  readonly removeRunFiles: (runDir: string) => Promise<void>;
}

/** What a VMM finds when it starts. */
export interface VmmSurroundings {
  readonly jail: Jail;
  /** Open file that it gets as descriptor 3. The caller closes its own. */
  readonly inheritedFile?: number | undefined;
}

export interface LaunchedVmm {
  readonly handle: VmHandle;
  readonly cgroup: VmCgroup | undefined;
  readonly exited: Promise<ProcessExit>;
}

/** Starts a VMM in its jail, cgroup and network namespace. `undo` gets what ends it again and leaves nothing. */
export async function launchVmm(launch: VmmLaunch, undo: AsyncDisposableStack): Promise<LaunchedVmm> {
  const { vmm, machine, cgroups, removeRunFiles } = launch;
  const { runDir, vmId } = machine;
  await removeRunFiles(runDir);
  undo.defer(() => removeRunFiles(runDir));
  const made = cgroups.create(vmId, launch.limits);
  undo.defer(async () => (await made.catch(() => undefined))?.remove());
  const [cgroup, { jail, inheritedFile }] = await Promise.all([made, launch.prepare()]);
  const { identity, exited } = await launchDetached({
    command: launch.command,
    cgroup,
    jail,
    netnsName: machine.network.netnsName,
    logPath: launch.logPath,
    env: launch.env,
    ...(inheritedFile === undefined ? {} : { inheritedFile }),
  });
  undo.defer(() => endProcess(identity, { graceMs: 0 }));
  return { handle: { vmId, vmm, process: identity, runDir, cgroup: cgroup?.path }, cgroup, exited };
}
