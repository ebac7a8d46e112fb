import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { isProcessAlive, type ProcessIdentity, readProcessIdentity } from '@nestbox/kit';
import type { CgroupTree } from './cgroup/cgroup.ts';
import type { VmHandle } from './driver.ts';
import { endProcess } from './end-process.ts';
import { isRunDirBelow } from './handle-identity.ts';
import { findProcesses } from './processes.ts';

export interface StrayHunt {
  /** The run folder that a VMM's command line names; undefined for other programs. */
  readonly runDirOfCommandLine: (words: readonly string[]) => string | undefined;
  /** Removes what a VMM leaves in its run folder. */
  readonly removeRunFiles: (runDir: string) => Promise<void>;
  readonly runRoot: string;
  readonly cgroups: CgroupTree;
  /** VMs to spare. */
  readonly known: readonly VmHandle[];
  /** Boots under way, to spare as well: their sandboxes by run folder. */
  readonly booting: ReadonlyMap<string, string>;
}

/**
 * Ends VMs of this installation that nobody knows, found by their command line and by what is in our cgroups, then removes the
 * cgroups and sockets that belong to none. Returns the pids ended.
 */
export async function removeStrays(hunt: StrayHunt): Promise<number[]> {
  const { runRoot, cgroups, known, booting, runDirOfCommandLine, removeRunFiles } = hunt;
  const sparedRunDirs = new Set([...booting.keys(), ...known.map((handle) => handle.runDir)]);
  const sparedIds = new Set([...booting.values(), ...known.map((handle) => handle.vmId)]);
  const targets = new Map<number, ProcessIdentity>();

  const processes = await findProcesses('cmdline', (words) => {
    const runDir = runDirOfCommandLine(words);
    return runDir !== undefined && isRunDirBelow(runRoot, runDir) && !booting.has(runDir);
  });
  for (const { identity } of processes) targets.set(identity.pid, identity);

  const orphaned = (await cgroups.list()).filter((cgroup) => !sparedIds.has(cgroup.vmId));
  for (const cgroup of orphaned) {
    for (const pid of await cgroup.pids()) {
      const identity = readProcessIdentity(pid);
      if (identity !== undefined) targets.set(pid, identity);
    }
  }

  // By process and not by folder: an earlier VM of a known sandbox is a stray.
  for (const handle of known) if (isProcessAlive(handle.process)) targets.delete(handle.process.pid);
  await Promise.all([...targets.values()].map((identity) => endProcess(identity, { graceMs: 0 })));
  for (const cgroup of orphaned) await cgroup.remove();
  for (const name of await readdir(runRoot).catch(() => [])) {
    const runDir = join(runRoot, name);
    if (!sparedRunDirs.has(runDir)) await removeRunFiles(runDir);
  }
  return [...targets.keys()];
}
