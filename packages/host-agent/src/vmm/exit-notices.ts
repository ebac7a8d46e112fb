import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from '@nestbox/kit';

interface Watch {
  readonly listeners: Set<(reason: string) => void>;
  readonly stop: AbortController;
}

/** Before a watch that failed is tried again. */
const RETRY_MS = 1000;

/** Tells listeners once when a VM is gone. However many listeners a VM has, it is watched once. */
export class ExitNotices {
  readonly #watches = new Map<string, Watch>();
  readonly #logger: Logger;
  readonly #retryMs: number;

  constructor(logger: Logger, options: { readonly retryMs?: number } = {}) {
    this.#logger = logger;
    this.#retryMs = options.retryMs ?? RETRY_MS;
  }

  /**
   * `waitUntilGone` resolves with the reason in plain words and is asked once for each `key`, or again after it failed; it
   * rejects when its signal aborts.
   * Returns the undo.
   */
  add(
    key: string,
    waitUntilGone: (signal: AbortSignal) => Promise<string>,
    listener: (reason: string) => void,
  ): () => void {
    const watch = this.#watches.get(key) ?? this.#begin(key, waitUntilGone);
    // A listener of its own, so that the same function may be added twice and each undo takes one away.
    const own = (reason: string) => listener(reason);
    watch.listeners.add(own);
    return () => {
      watch.listeners.delete(own);
      if (watch.listeners.size > 0) return;
      watch.stop.abort();
      if (this.#watches.get(key) === watch) this.#watches.delete(key);
    };
  }

  close(): void {
    for (const watch of this.#watches.values()) {
      watch.listeners.clear();
      watch.stop.abort();
    }
    this.#watches.clear();
  }

  #begin(key: string, waitUntilGone: (signal: AbortSignal) => Promise<string>): Watch {
    const watch: Watch = { listeners: new Set(), stop: new AbortController() };
    this.#watches.set(key, watch);
    void this.#run(key, watch, waitUntilGone);
    return watch;
  }

  async #run(key: string, watch: Watch, waitUntilGone: (signal: AbortSignal) => Promise<string>): Promise<void> {
    const { signal } = watch.stop;
    while (!signal.aborted) {
      try {
        const reason = await waitUntilGone(signal);
        if (this.#watches.get(key) === watch) this.#watches.delete(key);
        for (const listener of watch.listeners) this.#call(listener, reason);
        return;
      } catch (error) {
        if (signal.aborted) return;
        this.#logger.error({ err: error, vm: key }, 'watching a VM failed; it is watched again');
        await sleep(this.#retryMs, undefined, { ref: false });
      }
    }
  }

  #call(listener: (reason: string) => void, reason: string): void {
    try {
      listener(reason);
    } catch (error) {
      this.#logger.error({ err: error }, 'a listener for the end of a VM failed');
    }
  }
}
