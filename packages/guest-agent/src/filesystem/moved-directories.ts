/**
 * How long the second half of a rename may lag behind the first. The kernel queues both one after the other, but a
 * reader on another processor may come in between.
 */
const PAIR_GRACE_MS = 20;

export interface MovedDirectory {
  /** Its path before the move. */
  readonly path: string;
  /** The watches of the directory and of what is below it. */
  readonly watches: readonly number[];
}

/** Directories whose old name is gone and whose new one is not known yet. */
export class MovedDirectories {
  readonly #waiting = new Map<number, MovedDirectory & { readonly timer: NodeJS.Timeout }>();
  readonly #afterAllUntilNow: (action: () => void) => void;

  /** @param afterAllUntilNow runs an action once all records of what has happened until now are worked off */
  constructor(afterAllUntilNow: (action: () => void) => void) {
    this.#afterAllUntilNow = afterAllUntilNow;
  }

  /** The first half of a rename. `onGone` gets the watches when no second half comes: the directory left the tree. */
  leave(cookie: number, path: string, watches: readonly number[], onGone: (watches: readonly number[]) => void): void {
    const timer = setTimeout(() => {
      this.#afterAllUntilNow(() => {
        if (this.#waiting.delete(cookie)) onGone(watches);
      });
    }, PAIR_GRACE_MS);
    timer.unref();
    this.#waiting.set(cookie, { path, watches, timer });
  }

  /** The second half of a rename; undefined when the directory comes from outside of the tree. */
  arrive(cookie: number): MovedDirectory | undefined {
    const moved = this.#waiting.get(cookie);
    if (moved === undefined) return undefined;
    this.#waiting.delete(cookie);
    clearTimeout(moved.timer);
    return moved;
  }

  clear(): void {
    for (const { timer } of this.#waiting.values()) clearTimeout(timer);
    this.#waiting.clear();
  }
}
