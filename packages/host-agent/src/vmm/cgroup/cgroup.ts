import { mkdir, readdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { dirname, join, normalize } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { NestboxError } from '@nestbox/contract';
import { hasErrorCode, ignoreMissing, readWords } from './files.ts';
import {
  type CgroupEnvironment,
  type CgroupLimits,
  type CgroupSupport,
  findHierarchy,
  type Hierarchy,
  readCgroupEnvironment,
} from './hierarchy.ts';

export type { CgroupEnvironment, CgroupLimits, CgroupSupport } from './hierarchy.ts';

/** Whether VMs can be bounded here, for `nestbox doctor`. Looks, and changes nothing. */
export async function cgroupSupport(environment?: CgroupEnvironment): Promise<CgroupSupport> {
  return (await findHierarchy(environment ?? (await readCgroupEnvironment()))).support;
}

/**
 * The cgroups of one installation: `nestbox-<instance>/<vmId>`. They hang at the top of the tree rather than below our
 * own service, so that stopping the service leaves VMs alone.
 */
export class CgroupTree {
  readonly support: CgroupSupport;
  readonly #hierarchy: Hierarchy | undefined;
  readonly #family: string;

  private constructor(instance: string, hierarchy: Hierarchy | undefined, support: CgroupSupport) {
    this.support = support;
    this.#hierarchy = hierarchy;
    this.#family = `nestbox-${instance}`;
  }

  static async open(instance: string, environment?: CgroupEnvironment): Promise<CgroupTree> {
    const { hierarchy, support } = await findHierarchy(environment ?? (await readCgroupEnvironment()));
    return new CgroupTree(instance, hierarchy, support);
  }

  /**
   * Makes a VM's cgroup with its limits; one that was left over is taken over. Undefined where cgroups cannot be used.
   * Throws `internal`; nothing is left then.
   */
  async create(vmId: string, limits: CgroupLimits): Promise<VmCgroup | undefined> {
    if (this.#hierarchy === undefined) return undefined;
    const family = join(this.#hierarchy.base, this.#family);
    const cgroup = new VmCgroup(this.#hierarchy, join(family, vmId), vmId);
    try {
      await makeFolders(this.#hierarchy, family, cgroup.path);
      await this.#hierarchy.writeLimits(cgroup.path, limits);
      return cgroup;
    } catch (cause) {
      await cgroup.remove();
      throw new NestboxError('internal', `The cgroup ${cgroup.path}, which bounds the VM, cannot be set up.`, {
        cause,
      });
    }
  }

  /** The cgroup that a handle names; undefined when it cannot be that sandbox's. */
  find(path: string | undefined, vmId: string): VmCgroup | undefined {
    if (this.#hierarchy === undefined || path === undefined || path !== normalize(path)) return undefined;
    const ours = join(this.#family, vmId);
    if (path !== ours && !path.endsWith(`/${ours}`)) return undefined;
    return new VmCgroup(this.#hierarchy, path, vmId);
  }

  /** Every cgroup of this installation. */
  async list(): Promise<VmCgroup[]> {
    const hierarchy = this.#hierarchy;
    if (hierarchy === undefined) return [];
    const family = join(hierarchy.base, this.#family);
    const names = new Set<string>();
    for (const folder of hierarchy.folders(family)) {
      const entries = await readdir(folder, { withFileTypes: true }).catch(ignoreMissing([]));
      for (const entry of entries) if (entry.isDirectory()) names.add(entry.name);
    }
    return [...names].map((name) => new VmCgroup(hierarchy, join(family, name), name));
  }
}

/** A process leaves its cgroup a moment after it has left the process table. */
const REMOVE_WAIT_MS = 2000;
const REMOVE_POLL_MS = 10;

export class VmCgroup {
  readonly vmId: string;
  /** Below the mount point(s). */
  readonly path: string;
  readonly #hierarchy: Hierarchy;

  constructor(hierarchy: Hierarchy, path: string, vmId: string) {
    this.#hierarchy = hierarchy;
    this.path = path;
    this.vmId = vmId;
  }

  /** A process whose pid is written into all of these is inside. */
  get procsFiles(): string[] {
    return this.#folders.map((folder) => join(folder, 'cgroup.procs'));
  }

  /**
   * Moves a process with all its threads inside. One folder after the other: the kernel waits some milliseconds before the first
   * move, not before those that follow at once. Throws `internal`.
   */
  async admit(pid: number): Promise<void> {
    try {
      for (const file of this.procsFiles) await writeFile(file, String(pid));
    } catch (cause) {
      // It has ended meanwhile, which its parent hears of.
      if (hasErrorCode(cause, 'ESRCH')) return;
      throw new NestboxError('internal', `The process ${pid} cannot be moved into the cgroup ${this.path}.`, { cause });
    }
  }

  async pids(): Promise<number[]> {
    const all = await Promise.all(this.procsFiles.map(readWords));
    return [...new Set(all.flat().map(Number))];
  }

  /** The limits as the kernel has them; it may have rounded them to pages. */
  readLimits(): Promise<CgroupLimits> {
    return this.#hierarchy.readLimits(this.path);
  }

  /** True when the kernel killed something inside for want of memory. */
  async wasOutOfMemory(): Promise<boolean> {
    const events = await readFile(this.#hierarchy.memoryEventsFile(this.path), 'utf8').catch(ignoreMissing(''));
    return /^oom_kill [1-9]/m.test(events);
  }

  /**
   * Removes it, and the family with its last member. Waits a moment for processes that are about to end. Removing what is
   * gone is fine. Throws `internal` when processes stay.
   */
  async remove(): Promise<void> {
    const endsAt = performance.now() + REMOVE_WAIT_MS;
    for (const folder of this.#folders) {
      await removeFolder(folder, endsAt);
      await rmdir(dirname(folder)).catch((error: unknown) => {
        // Other VMs are in there; or another removal came first.
        if (!['EBUSY', 'ENOTEMPTY', 'ENOENT'].some((code) => hasErrorCode(error, code))) throw error;
      });
    }
  }

  get #folders(): string[] {
    return this.#hierarchy.folders(this.path);
  }
}

async function makeFolders(hierarchy: Hierarchy, family: string, path: string): Promise<void> {
  // Somebody else's last VM may take the family away between our two steps.
  for (let attemptsLeft = 5; ; attemptsLeft--) {
    try {
      await hierarchy.prepareFamily(family);
      for (const folder of hierarchy.folders(path)) await mkdir(folder).catch(ignoreExisting);
      return;
    } catch (error) {
      if (!hasErrorCode(error, 'ENOENT') || attemptsLeft === 0) throw error;
    }
  }
}

function ignoreExisting(error: unknown): void {
  if (!hasErrorCode(error, 'EEXIST')) throw error;
}

async function removeFolder(folder: string, endsAt: number): Promise<void> {
  for (;;) {
    try {
      await rmdir(folder);
      return;
    } catch (error) {
      if (hasErrorCode(error, 'ENOENT')) return;
      if (!hasErrorCode(error, 'EBUSY') || performance.now() >= endsAt)
        throw new NestboxError('internal', `The cgroup ${folder} cannot be removed.`, { cause: error });
      await sleep(REMOVE_POLL_MS);
    }
  }
}
