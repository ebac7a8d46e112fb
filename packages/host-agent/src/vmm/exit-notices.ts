import type { Logger } from '@nestbox/kit';

interface Watch {
  readonly listeners: Set<(reason: string) => void>;
  readonly stop: AbortController;
}

/** Tells listeners once when a VM is gone. However many listeners a VM has, it is watched once. */
export class ExitNotices {
  readonly #watches = new Map<string, Watch>();
  readonly #logger: Logger;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /**
   * `waitUntilGone` resolves with the reason in plain words and is asked once for each `key`; it rejects when its signal aborts.
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
    waitUntilGone(watch.stop.signal).then(
      (reason) => {
        if (this.#watches.get(key) === watch) this.#watches.delete(key);
        for (const listener of watch.listeners) this.#call(listener, reason);
      },
      (error: unknown) => {
        if (!watch.stop.signal.aborted) this.#logger.error({ err: error, vm: key }, 'watching a VM failed');
      },
    );
    return watch;
  }

  #call(listener: (reason: string) => void, reason: string): void {
    try {
      listener(reason);
    } catch (error) {
      this.#logger.error({ err: error }, 'a listener for the end of a VM failed');
    }
  }
}
