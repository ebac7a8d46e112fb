import type { Logger } from '@nestbox/kit';

/** Work that outlives the request or event that began it. A stopping server waits until all of it has ended. */
export class BackgroundTasks {
  readonly #running = new Set<Promise<unknown>>();
  readonly #logger: Logger;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** Begins work that nobody waits for: a failure is logged. `description` says in the log what failed, `facts` what it was about. */
  start(description: string, task: () => Promise<unknown>, facts: { readonly sandboxId?: string } = {}): void {
    this.track(task()).catch((error: unknown) => this.#logger.warn({ ...facts, err: error }, `Failed: ${description}`));
  }

  /** Returns the same outcome, and lets drain() wait for it, whether or not somebody still waits for the answer. */
  async track<T>(work: Promise<T>): Promise<T> {
    this.#running.add(work);
    try {
      return await work;
    } finally {
      this.#running.delete(work);
    }
  }

  /** Resolves when nothing runs any more, also of what was started meanwhile. */
  async drain(): Promise<void> {
    while (this.#running.size > 0) await Promise.allSettled(this.#running);
  }
}
