import { existsSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Jailer } from './jailer.ts';

/**
 * What a VMM is shut into: a user of its own without any privilege, and mount, pid, IPC, UTS and cgroup namespaces in which
 * nothing of the host is there but what is named here. Bubblewrap makes them (Debian: bubblewrap), setpriv takes the user; or Firecracker's
 * jailer, where there is one.
 */
export interface Jail {
  /** User and group that the VMM runs as. */
  readonly userId: number;
  /** Further groups, such as that of /dev/kvm. */
  readonly groupIds: readonly number[];
  /** Files and folders of the host that are seen inside. What of it may be read or written is up to its owner and mode. */
  readonly mounts: readonly JailMount[];
  /** Device nodes, such as /dev/kvm. `null` and `urandom` are always there. */
  readonly devices: readonly string[];
  /** Who makes the jail. It brings its own devices and takes no further groups. Default: bubblewrap. */
  readonly jailer?: Jailer | undefined;
}

export interface JailMount {
  readonly hostPath: string;
  /** Where it is inside; parent folders come by themselves. */
  readonly jailPath: string;
  readonly writable: boolean;
}

/** A file or folder at the same path inside. */
export function sameMount(path: string, writable = false): JailMount {
  return { hostPath: path, jailPath: path, writable };
}

const SETPRIV = '/usr/bin/setpriv';
/** Libraries: public files of packages. Programs are not among them. */
const SYSTEM_PATHS = ['/usr/lib', '/usr/lib64', SETPRIV];
/** On systems that are not merged into /usr these are folders, on others links. Either way programs name them. */
const LIBRARY_LINKS = [
  ['usr/lib', '/lib'],
  ['usr/lib64', '/lib64'],
] as const;
const USUAL_DEVICES = ['/dev/null', '/dev/urandom'];
/** What setpriv needs to become the user and to give everything up. */
const CAPABILITIES = ['CAP_SETUID', 'CAP_SETGID', 'CAP_SETPCAP'];

/**
 * The command that runs a program in the jail with these variables and no others. `infoDescriptor` is an open descriptor to
 * which bubblewrap writes `{"child-pid": N}`, the program's process as the host sees it. bubblewrap itself stays outside as its
 * parent and ends with its exit status, 128 and more for a signal.
 */
export function jailCommand(
  jail: Jail,
  infoDescriptor: number,
  env: Readonly<Record<string, string>>,
  command: readonly string[],
): string[] {
  const { userId, groupIds, mounts } = jail;
  const system = SYSTEM_PATHS.filter((path) => existsSync(path)).map((path) => sameMount(path));
  const nodes = [...USUAL_DEVICES, ...jail.devices];
  return [
    'bwrap',
    ...['--unshare-pid', '--unshare-ipc', '--unshare-uts', '--unshare-cgroup-try', '--as-pid-1'],
    ...['--info-fd', String(infoDescriptor)],
    ...['--clearenv', ...Object.entries(env).flatMap(([name, value]) => ['--setenv', name, value])],
    ...['--tmpfs', '/dev'],
    ...foldersOf([...system, ...mounts].map(({ jailPath }) => jailPath).concat(nodes)).flatMap((path) => [
      '--dir',
      path,
    ]),
    ...LIBRARY_LINKS.flatMap(([target, path]) => ['--symlink', target, path]),
    ...nodes.flatMap((path) => ['--dev-bind', path, path]),
    ...[...system, ...mounts].flatMap(({ hostPath, jailPath, writable }) => [
      writable ? '--bind' : '--ro-bind',
      hostPath,
      jailPath,
    ]),
    ...['--remount-ro', '/dev', '--remount-ro', '/', '--chdir', '/'],
    ...['--cap-drop', 'ALL', ...CAPABILITIES.flatMap((name) => ['--cap-add', name])],
    '--',
    SETPRIV,
    ...['--reuid', String(userId), '--regid', String(userId)],
    ...(groupIds.length > 0 ? ['--groups', groupIds.join(',')] : ['--clear-groups']),
    ...['--inh-caps=-all', '--bounding-set=-all', '--no-new-privs', '--'],
    ...command,
  ];
}

/** Every folder above the paths, the outer ones first. bubblewrap would make them too, but for root alone. */
function foldersOf(paths: readonly string[]): string[] {
  const folders = new Set<string>();
  for (const path of paths)
    for (let folder = dirname(path); folder !== '/' && folder !== '/dev'; folder = dirname(folder)) folders.add(folder);
  return [...folders].sort((left, right) => left.length - right.length);
}
