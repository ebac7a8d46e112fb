import { libc, SystemCallError } from './libc.ts';

export interface SpawnRequest {
  /** Absolute path of the program; no PATH is searched. */
  readonly path: string;
  readonly argv: readonly string[];
  /** `NAME=value` each. */
  readonly env: readonly string[];
  readonly cwd: string;
  /** Three descriptors of ours, or the path of a terminal that becomes the controlling one of a new session. */
  readonly stdio: readonly [stdin: number, stdout: number, stderr: number] | { readonly terminal: string };
}

/** glibc's sizes are 80, 336 and 128 bytes; the rest is reserve for other versions. */
const FILE_ACTIONS_BYTES = 256;
const ATTRIBUTES_BYTES = 1024;
const SIGNAL_SET_BYTES = 256;

const SET_PROCESS_GROUP = 0x02;
const SET_SIGNAL_DEFAULTS = 0x04;
const SET_SIGNAL_MASK = 0x08;
const SET_SESSION = 0x80;
const OPEN_READ_WRITE = 2;
const FIRST_PRIVATE_FD = 3;

/**
 * Starts processes by posix_spawn(3). glibc makes it a vfork, so that its cost does not grow with our memory as the
 * fork of Node's spawn does; the caller's credentials (see Identity) pass on to the child; and the caller alone waits
 * for it, no library does.
 *
 * The child gets default signal handling (Node ignores SIGPIPE, which would be inherited) and a process group of its
 * own, so that `kill 0` in a script cannot reach the agent. It gets no descriptor but 0, 1 and 2. Needs glibc 2.34.
 */
export class Spawner {
  readonly #spawn: (
    pid: number[],
    path: string,
    actions: Buffer,
    attributes: Buffer,
    argv: (string | null)[],
    env: (string | null)[],
  ) => number;
  readonly #init: (actions: Buffer) => number;
  readonly #addDup2: (actions: Buffer, from: number, to: number) => number;
  readonly #addOpen: (actions: Buffer, fd: number, path: string, flags: number, mode: number) => number;
  readonly #addChdir: (actions: Buffer, path: string) => number;
  readonly #addCloseFrom: (actions: Buffer, fd: number) => number;
  readonly #destroy: (actions: Buffer) => number;
  readonly #ownGroup: Buffer;
  readonly #ownSession: Buffer;

  constructor() {
    const lib = libc();
    this.#spawn = lib.func(
      'int posix_spawn(_Out_ int *pid, const char *path, void *actions, void *attributes, const char **argv, const char **env)',
    );
    this.#init = lib.func('int posix_spawn_file_actions_init(void *actions)');
    this.#addDup2 = lib.func('int posix_spawn_file_actions_adddup2(void *actions, int from, int to)');
    this.#addOpen = lib.func(
      'int posix_spawn_file_actions_addopen(void *actions, int fd, const char *path, int flags, uint mode)',
    );
    this.#addChdir = lib.func('int posix_spawn_file_actions_addchdir_np(void *actions, const char *path)');
    this.#addCloseFrom = lib.func('int posix_spawn_file_actions_addclosefrom_np(void *actions, int fd)');
    this.#destroy = lib.func('int posix_spawn_file_actions_destroy(void *actions)');
    const signals = SET_SIGNAL_DEFAULTS | SET_SIGNAL_MASK;
    this.#ownGroup = attributes(signals | SET_PROCESS_GROUP);
    this.#ownSession = attributes(signals | SET_SESSION);
  }

  /**
   * Returns the pid once the program has replaced us in the child. Throws SystemCallError with the errno of whatever
   * failed on the way: a descriptor, the working directory, the program itself.
   */
  spawn({ path, argv, env, cwd, stdio }: SpawnRequest): number {
    const actions = Buffer.alloc(FILE_ACTIONS_BYTES);
    succeeded(this.#init(actions));
    try {
      let attributes = this.#ownGroup;
      if ('terminal' in stdio) {
        // The first terminal that a session leader opens becomes its controlling one (tty_ioctl(4)).
        attributes = this.#ownSession;
        succeeded(this.#addOpen(actions, 0, stdio.terminal, OPEN_READ_WRITE, 0));
        succeeded(this.#addDup2(actions, 0, 1));
        succeeded(this.#addDup2(actions, 0, 2));
      } else {
        for (const [target, fd] of stdio.entries()) succeeded(this.#addDup2(actions, fd, target));
      }
      succeeded(this.#addCloseFrom(actions, FIRST_PRIVATE_FD));
      succeeded(this.#addChdir(actions, cwd));
      const pid = [0];
      succeeded(this.#spawn(pid, path, actions, attributes, [...argv, null], [...env, null]));
      return pid[0] ?? 0;
    } finally {
      this.#destroy(actions);
    }
  }
}

function attributes(flags: number): Buffer {
  const lib = libc();
  const result = Buffer.alloc(ATTRIBUTES_BYTES);
  succeeded(lib.func('int posix_spawnattr_init(void *attributes)')(result));
  succeeded(lib.func('int posix_spawnattr_setflags(void *attributes, short flags)')(result, flags));
  const every = Buffer.alloc(SIGNAL_SET_BYTES, 0xff);
  succeeded(lib.func('int posix_spawnattr_setsigdefault(void *attributes, void *set)')(result, every));
  return result;
}

/** The posix_spawn family returns the errno instead of setting it. */
function succeeded(errno: number): void {
  if (errno !== 0) throw new SystemCallError('posix_spawn', errno);
}
