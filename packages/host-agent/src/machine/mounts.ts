/** A mounted file system. */
export interface Mount {
  readonly mountPoint: string;
  readonly type: string;
  readonly device: string;
  readonly superOptions: readonly string[];
}

/**
 * Reads /proc/self/mountinfo, in its order: of two on one mount point the later one is seen. Fields: id, parent, device, root, mount
 * point, options, optional fields, `-`, type, source, super options. Source: proc_pid_mountinfo(5).
 */
export function parseMounts(mountinfo: string): Mount[] {
  return mountinfo.split('\n').flatMap((line): Mount[] => {
    const [before, after] = line.split(' - ', 2);
    const mountPoint = before?.split(' ')[4];
    const [type, device = '', superOptions = ''] = after?.split(' ') ?? [];
    if (mountPoint === undefined || type === undefined) return [];
    return [
      {
        mountPoint: unescapeField(mountPoint),
        type,
        device: unescapeField(device),
        superOptions: superOptions.split(','),
      },
    ];
  });
}

/** The mount that a path is on; the path must be absolute and without links. */
export function mountOf(mounts: readonly Mount[], path: string): Mount | undefined {
  let found: Mount | undefined;
  for (const mount of mounts) {
    const { mountPoint } = mount;
    const isInside = mountPoint === '/' || path === mountPoint || path.startsWith(`${mountPoint}/`);
    if (isInside && mountPoint.length >= (found?.mountPoint.length ?? 0)) found = mount;
  }
  return found;
}

/** The kernel writes space, tab, newline and backslash as three octal digits. */
function unescapeField(field: string): string {
  return field.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}
