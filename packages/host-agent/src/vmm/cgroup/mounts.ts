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

/**
 * Reads /proc/self/mountinfo. Fields: id, parent, device, root, mount point, options, optional fields, `-`, type, source,
 * super options. Source: proc_pid_mountinfo(5).
 */
export function parseCgroupMounts(mountinfo: string): CgroupMounts {
  const v1 = new Map<string, string>();
  let v2: string | undefined;
  for (const line of mountinfo.split('\n')) {
    const [before, after] = line.split(' - ', 2);
    const mountPoint = before?.split(' ')[4];
    const [type, , superOptions] = after?.split(' ') ?? [];
    if (mountPoint === undefined || type === undefined) continue;
    const path = unescapeMountPoint(mountPoint);
    if (type === 'cgroup2') v2 ??= path;
    if (type === 'cgroup') {
      for (const option of superOptions?.split(',') ?? []) if (!v1.has(option)) v1.set(option, path);
    }
  }
  return { v1, v2 };
}

/** The kernel writes space, tab, newline and backslash as three octal digits. */
function unescapeMountPoint(path: string): string {
  return path.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

/** This process's place in the unified hierarchy: the line `0::/path` of /proc/self/cgroup. Undefined without one. */
export function parseUnifiedCgroup(procSelfCgroup: string): string | undefined {
  for (const line of procSelfCgroup.split('\n')) if (line.startsWith('0::/')) return line.slice('0::'.length);
  return undefined;
}
