import { checked, libc } from './libc.ts';

/** Who a process acts as. */
export interface Credentials {
  readonly uid: number;
  readonly gid: number;
  /** Supplementary groups. */
  readonly groups: readonly number[];
}

/** Numbers of setgroups, setresgid and setresuid (asm/unistd.h of the kernel). */
const CALL_NUMBERS: Partial<Record<NodeJS.Architecture, { groups: number; gid: number; uid: number }>> = {
  x64: { groups: 116, gid: 119, uid: 117 },
  arm64: { groups: 159, gid: 149, uid: 147 },
};

/**
 * Lets the calling thread act as somebody else for a moment, so that a child started meanwhile is theirs: real,
 * effective and file-system ids and the supplementary groups, which no option of Node's spawn can set.
 *
 * The raw system calls change one thread only; glibc's wrappers would change them all. The saved ids stay ours, which
 * is what allows the way back; an exec drops them together with every capability. Files and pipes made meanwhile
 * belong to that user. While it lasts (one synchronous call, well under a millisecond) the user may send the agent
 * signals, as the kernel compares real ids.
 */
export class Identity {
  readonly #own: Credentials;
  readonly #calls: { groups: number; gid: number; uid: number };
  readonly #setIds: (call: number, real: number, effective: number, saved: number) => number;
  readonly #setGroups: (call: number, count: number, groups: Uint32Array) => number;

  constructor() {
    const calls = CALL_NUMBERS[process.arch];
    if (calls === undefined) throw new Error(`the guest agent does not know the processor ${process.arch}`);
    this.#calls = calls;
    this.#own = {
      uid: process.getuid?.() ?? 0,
      gid: process.getgid?.() ?? 0,
      groups: [...(process.getgroups?.() ?? [])],
    };
    this.#setIds = libc().func('syscall', 'long', ['long', 'long', 'long', 'long']);
    this.#setGroups = libc().func('syscall', 'long', ['long', 'long', 'void *']);
  }

  /**
   * Runs `action`, which must be synchronous, as `who`. Throws SystemCallError EPERM when we are not root and `who` is
   * somebody else.
   */
  runAs<T>(who: Credentials, action: () => T): T {
    if (this.#isOwn(who)) return action();
    const { uid, gid } = this.#own;
    try {
      checked('setgroups', this.#setGroups(this.#calls.groups, who.groups.length, Uint32Array.from(who.groups)));
      checked('setresgid', this.#setIds(this.#calls.gid, who.gid, who.gid, gid));
      checked('setresuid', this.#setIds(this.#calls.uid, who.uid, who.uid, uid));
      return action();
    } finally {
      checked('setresuid', this.#setIds(this.#calls.uid, uid, uid, uid));
      checked('setresgid', this.#setIds(this.#calls.gid, gid, gid, gid));
      if (uid === 0) {
        const { groups } = this.#own;
        checked('setgroups', this.#setGroups(this.#calls.groups, groups.length, Uint32Array.from(groups)));
      }
    }
  }

  #isOwn(who: Credentials): boolean {
    const { uid, gid, groups } = this.#own;
    if (who.uid !== uid || who.gid !== gid) return false;
    const own = new Set([gid, ...groups]);
    const wanted = new Set([gid, ...who.groups]);
    return own.size === wanted.size && [...wanted].every((group) => own.has(group));
  }
}
