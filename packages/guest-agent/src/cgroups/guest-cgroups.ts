import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { totalmem } from 'node:os';
import { join } from 'node:path';
import { attempt } from '../attempt.ts';
import type { ProcessGroupName, ProcessGroups } from './process-groups.ts';

const MIB = 1024 * 1024;
const CONTROLLERS = ['cpu', 'memory', 'io', 'pids'];
/** What commands leave to the kernel and the agent at least. */
const MAX_RESERVE_BYTES = 128 * MIB;

/** The groups and their weights (envd-interface.md, section 6). */
function groupSettings(memoryBytes: number): Readonly<Record<string, Readonly<Record<string, number>>>> {
  const commandBytes = memoryBytes - Math.min(Math.floor(memoryBytes / 8), MAX_RESERVE_BYTES);
  const memory = { 'memory.high': commandBytes, 'memory.max': commandBytes };
  return {
    ptys: { 'cpu.weight': 200, 'io.weight': 50, ...memory },
    user: { 'cpu.weight': 50, 'io.weight': 10, ...memory },
    socats: { 'cpu.weight': 150, 'io.weight': 50, 'memory.min': 5 * MIB, 'memory.low': 8 * MIB },
  };
}

/** The control groups of the guest, below `root` (version 2). The agent itself stays in `root`. */
export class GuestCgroups implements ProcessGroups {
  readonly #root: string;

  /** Makes the groups. A controller that the kernel lacks is left out. Throws when there is no cgroup2 at `root`. */
  constructor(root = '/sys/fs/cgroup', memoryBytes = totalmem()) {
    this.#root = root;
    const available = readFileSync(join(root, 'cgroup.controllers'), 'utf8').trim().split(' ');
    for (const controller of CONTROLLERS.filter((name) => available.includes(name))) {
      attempt(`delegating the controller ${controller}`, () =>
        writeFileSync(join(root, 'cgroup.subtree_control'), `+${controller}`),
      );
    }
    for (const [group, settings] of Object.entries(groupSettings(memoryBytes))) {
      const dir = join(root, group);
      mkdirSync(dir, { recursive: true });
      const files = new Set(readdirSync(dir));
      for (const [file, value] of Object.entries(settings)) {
        if (files.has(file)) attempt(`setting ${file} of ${group}`, () => writeFileSync(join(dir, file), `${value}`));
      }
    }
  }

  get root(): string {
    return this.#root;
  }

  place(pid: number, group: ProcessGroupName): void {
    writeFileSync(join(this.#root, group, 'cgroup.procs'), String(pid));
  }
}
