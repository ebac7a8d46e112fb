import { writeFileSync } from 'node:fs';
import { checked, libc } from './libc.ts';

const RLIMIT_NOFILE = 7;
/** The usual soft limit; select(2) cannot deal with more, and some programs close every descriptor up to it. */
const SOFT_OPEN_FILES = 1024n;

/** Descriptors that other threads of ours may take, and a child before its program runs. */
const SPARE_OPEN_FILES = 64;
const SELF = 0;

/** Limits of processes that run already, and of those that are about to. */
export class ProcessLimits {
  readonly #prlimit: (
    pid: number,
    resource: number,
    next: BigUint64Array | null,
    old: BigUint64Array | null,
  ) => number = libc().func('int prlimit(int pid, int resource, void *next, void *old)');

  /**
   * Starts a child with the usual soft limit of open files, from its first instruction on: ours is lowered for the length of the
   * synchronous `spawn`. `newestFd` is the highest descriptor that we have; with too many of them the child begins with our limit,
   * and `restoreOpenFiles` has to follow.
   */
  withUsualOpenFiles<T>(newestFd: number, spawn: () => T): T {
    if (newestFd + SPARE_OPEN_FILES > SOFT_OPEN_FILES) return spawn();
    const own = new BigUint64Array(2);
    checked('prlimit', this.#prlimit(SELF, RLIMIT_NOFILE, null, own));
    const [soft = 0n, hard = 0n] = own;
    if (soft <= SOFT_OPEN_FILES) return spawn();
    checked('prlimit', this.#prlimit(SELF, RLIMIT_NOFILE, BigUint64Array.of(SOFT_OPEN_FILES, hard), null));
    try {
      return spawn();
    } finally {
      checked('prlimit', this.#prlimit(SELF, RLIMIT_NOFILE, own, null));
    }
  }

  /** Gives `pid` back the usual soft limit of open files: Node raises its own to the hard limit, and a child inherits that. */
  restoreOpenFiles(pid: number): void {
    const limit = new BigUint64Array(2);
    checked('prlimit', this.#prlimit(pid, RLIMIT_NOFILE, null, limit));
    const [soft = 0n, hard = 0n] = limit;
    if (soft <= SOFT_OPEN_FILES) return;
    checked('prlimit', this.#prlimit(pid, RLIMIT_NOFILE, BigUint64Array.of(SOFT_OPEN_FILES, hard), null));
  }

  /** Sets both limits of open files; raising the hard one needs root. Throws SystemCallError. */
  setMaxOpenFiles(pid: number, count: number): void {
    const limit = BigUint64Array.of(BigInt(count), BigInt(count));
    checked('prlimit', this.#prlimit(pid, RLIMIT_NOFILE, limit, null));
  }

  /** Sets how early the kernel ends `pid` when memory runs out (proc_pid_oom_score_adj(5)). */
  setOomScoreAdjustment(pid: number, value: number): void {
    writeFileSync(`/proc/${pid}/oom_score_adj`, String(value));
  }
}
