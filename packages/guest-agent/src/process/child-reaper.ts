import { ChildWaiter, type ExitStatus } from '../system/wait.ts';

/**
 * Learns of the ends of our children. Nothing else in the agent starts processes (no node:child_process), so as PID 1
 * it collects whatever has ended, orphans of others included; as an ordinary process it asks for its own pids only.
 */
export class ChildReaper implements Disposable {
  readonly #waiter = new ChildWaiter();
  readonly #onExit = new Map<number, (status: ExitStatus) => void>();
  readonly #reapsOrphans: boolean;
  readonly #onSignal = () => this.#collect();

  constructor(options: { readonly reapsOrphans: boolean }) {
    this.#reapsOrphans = options.reapsOrphans;
    process.on('SIGCHLD', this.#onSignal);
  }

  /** Calls `onExit` once when `pid` has ended, never before the next turn of the event loop. */
  watch(pid: number, onExit: (status: ExitStatus) => void): void {
    this.#onExit.set(pid, onExit);
  }

  [Symbol.dispose](): void {
    process.off('SIGCHLD', this.#onSignal);
  }

  /** One SIGCHLD may stand for several ends. */
  #collect(): void {
    if (this.#reapsOrphans) {
      for (let ended = this.#waiter.collect(-1); ended !== undefined; ended = this.#waiter.collect(-1)) {
        this.#tell(ended.pid, ended.status);
      }
      return;
    }
    for (const pid of [...this.#onExit.keys()]) {
      const ended = this.#waiter.collect(pid);
      if (ended !== undefined) this.#tell(pid, ended.status);
    }
  }

  #tell(pid: number, status: ExitStatus): void {
    const onExit = this.#onExit.get(pid);
    this.#onExit.delete(pid);
    onExit?.(status);
  }
}
