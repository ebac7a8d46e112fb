import { parseMounts } from '../../machine/mounts.ts';

/** Controllers that bound a VM. */
export const VM_CONTROLLERS = ['memory', 'cpu', 'pids'] as const;
export type VmController = (typeof VM_CONTROLLERS)[number];

/** Where this machine's cgroup hierarchies are mounted, as this process sees them. */
export interface CgroupMounts {
  /** Mount point of each v1 controller. */
  readonly v1: ReadonlyMap<string, string>;
  /** Mount point of the unified hierarchy. On hybrid systems it exists beside v1 and has no controllers. */
  readonly v2: string | undefined;
}

/** Reads /proc/self/mountinfo. */
export function parseCgroupMounts(mountinfo: string): CgroupMounts {
  const v1 = new Map<string, string>();
  let v2: string | undefined;
  for (const { mountPoint, type, superOptions } of parseMounts(mountinfo)) {
    if (type === 'cgroup2') v2 ??= mountPoint;
    if (type === 'cgroup') {
      for (const option of superOptions) if (!v1.has(option)) v1.set(option, mountPoint);
    }
  }
  return { v1, v2 };
}

/** This process's place in the unified hierarchy: the line `0::/path` of /proc/self/cgroup. Undefined without one. */
export function parseUnifiedCgroup(procSelfCgroup: string): string | undefined {
  for (const line of procSelfCgroup.split('\n')) if (line.startsWith('0::/')) return line.slice('0::'.length);
  return undefined;
}
