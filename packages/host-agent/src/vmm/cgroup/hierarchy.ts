import { access, constants, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hasErrorCode, ignoreMissing, readWords } from './files.ts';
import { parseCgroupMounts, parseUnifiedCgroup, VM_CONTROLLERS, type VmController } from './mounts.ts';

export interface CgroupLimits {
  readonly memoryBytes: number;
  /** Whole CPUs that all threads together may use. */
  readonly cpuCount: number;
  /** Processes and threads. */
  readonly pidCount: number;
}

/** Whether VMs can be bounded on this host, in plain words. */
export interface CgroupSupport {
  readonly version: 1 | 2 | undefined;
  readonly reason: string;
}

/** What v1 and v2 do differently. Paths are relative to the mount points. */
export interface Hierarchy {
  readonly version: 1 | 2;
  /** Where our cgroups hang; empty for the top. */
  readonly base: string;
  /** The folder(s) that make up one cgroup: one on v2, one for each controller on v1. */
  folders(path: string): string[];
  /** Makes the cgroup that will hold those of VMs. Harmless when it is there. */
  prepareFamily(path: string): Promise<void>;
  writeLimits(path: string, limits: CgroupLimits): Promise<void>;
  readLimits(path: string): Promise<CgroupLimits>;
  /** Has a line `oom_kill N`. */
  memoryEventsFile(path: string): string;
}

/** The kernel's own files, which tests replace. */
export interface CgroupEnvironment {
  readonly mountinfo: string;
  readonly procSelfCgroup: string;
}

export async function readCgroupEnvironment(): Promise<CgroupEnvironment> {
  return {
    mountinfo: await readFile('/proc/self/mountinfo', 'utf8'),
    procSelfCgroup: await readFile('/proc/self/cgroup', 'utf8').catch(ignoreMissing('')),
  };
}

/** Looks, and changes nothing. On hybrid systems the controllers are v1's. */
export async function findHierarchy(
  environment: CgroupEnvironment,
): Promise<{ readonly hierarchy: Hierarchy | undefined; readonly support: CgroupSupport }> {
  const mounts = parseCgroupMounts(environment.mountinfo);
  const [memory, cpu, pids] = VM_CONTROLLERS.map((name) => mounts.v1.get(name));
  if (memory !== undefined && cpu !== undefined && pids !== undefined) {
    if (!(await isWritable(memory))) return unsupported(`${memory} cannot be written; Nestbox has to run as root`);
    const support = { version: 1, reason: 'cgroup v1 with the controllers memory, cpu and pids' } as const;
    return { hierarchy: v1Hierarchy({ memory, cpu, pids }), support };
  }
  if (mounts.v2 === undefined) return unsupported('no cgroup file system is mounted');
  // Our own place is asked only where the top cannot be written, as in a container that was given a part of the tree.
  let missing: string[] = [];
  for (const base of new Set(['/', parseUnifiedCgroup(environment.procSelfCgroup) ?? '/'])) {
    const offered = await readWords(join(mounts.v2, base, 'cgroup.controllers'));
    missing = VM_CONTROLLERS.filter((name) => !offered.includes(name));
    if (missing.length > 0 || !(await isWritable(join(mounts.v2, base, 'cgroup.subtree_control')))) continue;
    const support = { version: 2, reason: `cgroup v2 with the controllers memory, cpu and pids, at ${base}` } as const;
    return { hierarchy: v2Hierarchy(mounts.v2, base.slice(1)), support };
  }
  return unsupported(
    missing.length > 0
      ? `cgroup v2 is mounted, but without the controllers ${missing.join(', ')}`
      : `${mounts.v2} cannot be written: run as root, or give the service \`Delegate=yes\``,
  );
}

function unsupported(reason: string) {
  return { hierarchy: undefined, support: { version: undefined, reason } } as const;
}

/** The kernel's default; a shorter one costs more scheduling for no gain here. */
const CPU_PERIOD_US = 100_000;

function v1Hierarchy(mounts: Readonly<Record<VmController, string>>): Hierarchy {
  // cpu may be mounted together with another of ours.
  const roots = [...new Set(Object.values(mounts))];
  const { memory, cpu, pids } = mounts;
  return {
    version: 1,
    base: '',
    folders: (path) => roots.map((root) => join(root, path)),
    async prepareFamily(path) {
      for (const root of roots) await mkdir(join(root, path), { recursive: true });
    },
    async writeLimits(path, limits) {
      await writeFile(join(memory, path, 'memory.limit_in_bytes'), String(limits.memoryBytes));
      await writeFile(join(cpu, path, 'cpu.cfs_period_us'), String(CPU_PERIOD_US));
      await writeFile(join(cpu, path, 'cpu.cfs_quota_us'), String(Math.round(limits.cpuCount * CPU_PERIOD_US)));
      await writeFile(join(pids, path, 'pids.max'), String(limits.pidCount));
    },
    async readLimits(path) {
      const [memoryBytes] = await readNumbers(join(memory, path, 'memory.limit_in_bytes'));
      const [quotaUs] = await readNumbers(join(cpu, path, 'cpu.cfs_quota_us'));
      const [periodUs] = await readNumbers(join(cpu, path, 'cpu.cfs_period_us'));
      const [pidCount] = await readNumbers(join(pids, path, 'pids.max'));
      return { memoryBytes, cpuCount: quotaUs / periodUs, pidCount };
    },
    memoryEventsFile: (path) => join(memory, path, 'memory.oom_control'),
  };
}

function v2Hierarchy(mount: string, base: string): Hierarchy {
  return {
    version: 2,
    base,
    folders: (path) => [join(mount, path)],
    async prepareFamily(path) {
      await enableControllers(join(mount, base));
      await mkdir(join(mount, path), { recursive: true });
      await enableControllers(join(mount, path));
    },
    async writeLimits(path, limits) {
      const folder = join(mount, path);
      await writeFile(join(folder, 'memory.max'), String(limits.memoryBytes));
      await writeFile(join(folder, 'cpu.max'), `${Math.round(limits.cpuCount * CPU_PERIOD_US)} ${CPU_PERIOD_US}`);
      await writeFile(join(folder, 'pids.max'), String(limits.pidCount));
    },
    async readLimits(path) {
      const [memoryBytes] = await readNumbers(join(mount, path, 'memory.max'));
      const [quotaUs, periodUs] = await readNumbers(join(mount, path, 'cpu.max'));
      const [pidCount] = await readNumbers(join(mount, path, 'pids.max'));
      return { memoryBytes, cpuCount: quotaUs / periodUs, pidCount };
    },
    memoryEventsFile: (path) => join(mount, path, 'memory.events'),
  };
}

/** Words of a limit file as numbers; `max` and what is missing are infinite. */
async function readNumbers(path: string): Promise<[number, number]> {
  const [first = 'max', second = 'max'] = await readWords(path);
  const number = (word: string) => (word === 'max' ? Number.POSITIVE_INFINITY : Number(word));
  return [number(first), number(second)];
}

/**
 * Lets the children of a v2 cgroup have our controllers. Only the real top of the tree may have processes and such children
 * at once ("no internal processes", cgroups(7)); elsewhere, in a container, those processes move into a leaf first. Their
 * limits stay what they were.
 */
async function enableControllers(folder: string): Promise<void> {
  const control = join(folder, 'cgroup.subtree_control');
  const enabled = await readWords(control);
  if (VM_CONTROLLERS.every((name) => enabled.includes(name))) return;
  const enable = VM_CONTROLLERS.map((name) => `+${name}`).join(' ');
  try {
    await writeFile(control, enable);
  } catch (error) {
    if (!hasErrorCode(error, 'EBUSY')) throw error;
    await moveProcesses(folder, join(folder, 'nestbox-host-agent'));
    await writeFile(control, enable);
  }
}

async function moveProcesses(from: string, to: string): Promise<void> {
  await mkdir(to, { recursive: true });
  for (const pid of await readWords(join(from, 'cgroup.procs'))) {
    await writeFile(join(to, 'cgroup.procs'), pid).catch((error: unknown) => {
      // It ended in the meantime, or is a kernel thread, which may stay.
      if (!hasErrorCode(error, 'ESRCH') && !hasErrorCode(error, 'EINVAL')) throw error;
    });
  }
}

async function isWritable(path: string): Promise<boolean> {
  try {
    await access(path, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}
