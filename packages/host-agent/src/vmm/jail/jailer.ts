import { basename, join } from 'node:path';
import type { Jail, JailMount } from './jail.ts';

/** Firecracker's jailer, which makes the jail in bubblewrap's place. */
export interface Jailer {
  /** Absolute path of the program. */
  readonly path: string;
  /** Letters, digits and hyphens; the jailer gives it to the VMM as its `--id`. */
  readonly id: string;
  /** An empty folder. In the jailer's own mount namespace the jail is built on it; nothing of that is seen outside. */
  readonly baseDir: string;
}

/** A copy of Firecracker, with symbols some 40 MiB, and two device nodes. */
const BASE_BYTES = 64 * 2 ** 20;

/**
 * Makes a tmpfs, in which device nodes and programs work wherever the run folder is, and the files of the jail at their places in
 * it, then becomes the jailer. All in a mount namespace of its own: with the last process in it, however that ended, the mounts are gone.
 * Arguments: descriptor for the pid, base folder, root of the jail, then triples (ro or rw, path, place in the jail), `--`, the jailer's command.
 * `/proc` is the host's still, so the pid is as the host sees it.
 */
const SCRIPT = `
info=$1 base=$2 root=$3
shift 3
read -r pid rest </proc/self/stat
umask 022
mount -t tmpfs -o size=${BASE_BYTES},mode=0711,nosuid tmpfs "$base"
mkdir -p "$root"
while [ "$1" != -- ]; do
  place=$root$3
  if [ -d "$2" ]; then mkdir -p "$place"; else mkdir -p "\${place%/*}"; : >"$place"; fi
  mount -o "bind,$1,nosuid" -- "$2" "$place"
  shift 3
done
shift
echo "{\\"child-pid\\": $pid}" >&"$info"
eval "exec $info>&-"
exec setpriv --no-new-privs -- "$@"
`;

/**
 * Stays outside of the jail as its parent and ends with the same status, 128 and more for a signal, as bubblewrap does. (unshare itself, by
 * `--fork`, tells signals wrongly in the version of Debian 12.) Its first child is process 1 of the pid namespace.
 */
const PARENT_SCRIPT = 'script=$1; shift; sh -euc "$script" sh "$@" & wait $!';

/**
 * The command that runs Firecracker by its jailer: a chroot, its user and group, the network namespace and device nodes are the
 * jailer's work; before it come namespaces for mounts, processes, IPC, host name and cgroups. The jailer is process 1 of its pid
 * namespace and becomes Firecracker. With its `--new-pid-ns` its child would be that, and nobody would hear of how that ended.
 */
export function jailerCommand(
  jail: Jail,
  jailer: Jailer,
  launch: {
    readonly infoDescriptor: number;
    readonly netnsName: string | undefined;
    readonly command: readonly [string, ...string[]];
  },
): string[] {
  const { path, id, baseDir } = jailer;
  const [execFile, ...args] = launch.command;
  const root = join(baseDir, basename(execFile), id, 'root');
  const user = String(jail.userId);
  return [
    ...['unshare', '--mount', '--pid', '--ipc', '--uts', '--cgroup', '--'],
    ...['sh', '-c', PARENT_SCRIPT, 'sh', SCRIPT, String(launch.infoDescriptor), baseDir, root],
    ...jail.mounts.flatMap((mount: JailMount) => [mount.writable ? 'rw' : 'ro', mount.hostPath, mount.jailPath]),
    '--',
    ...[path, '--id', id, '--exec-file', execFile, '--uid', user, '--gid', user, '--chroot-base-dir', baseDir],
    ...(launch.netnsName === undefined ? [] : ['--netns', `/run/netns/${launch.netnsName}`]),
    '--',
    ...args,
  ];
}
