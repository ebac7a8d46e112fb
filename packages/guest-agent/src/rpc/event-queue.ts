export interface KeepAlive<T> {
  readonly intervalMs: number;
  readonly message: () => T;
}

/**
 * Hands events from whoever makes them to one stream, in order. The maker looks at `queuedBytes` and holds back by
 * itself; `whenDrained` tells it when all was taken.
 */
export class EventQueue<T> {
  #items: { readonly event: T; readonly bytes: number }[] = [];
  #queuedBytes = 0;
  #ended: boolean = false;
  #error: unknown;
  #wake: (() => void) | undefined;
  #onDrain: (() => void) | undefined;

  /** Calls `listener` each time when everything queued was taken, and when the stream is over. */
  whenDrained(listener: () => void): void {
    this.#onDrain = listener;
  }

  /** Sum of the `bytes` of events that the stream has not sent yet. */
  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  push(event: T, bytes = 0): void {
    if (this.#ended) return;
    this.#items.push({ event, bytes });
    this.#queuedBytes += bytes;
    this.#wake?.();
  }

  /** Ends the stream after what is queued; with an error, the stream fails with it then. */
  end(error?: unknown): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    this.#wake?.();
  }

  /**
   * Yields the events until `end`, and a keep-alive after each `intervalMs` of silence. Throws the signal's reason when
   * it is aborted. An event counts as queued until the consumer asks for the next one, so a slow stream shows.
   */
  async *read(signal: AbortSignal, keepAlive: KeepAlive<T>): AsyncGenerator<T> {
    let silent = false;
    const timer = setTimeout(() => {
      silent = true;
      this.#wake?.();
    }, keepAlive.intervalMs);
    const onAbort = () => this.#wake?.();
    signal.addEventListener('abort', onAbort);
    try {
      for (;;) {
        signal.throwIfAborted();
        const item = this.#items.shift();
        if (item !== undefined) {
          yield item.event;
          this.#queuedBytes -= item.bytes;
          if (this.#items.length === 0) this.#onDrain?.();
          silent = false;
          timer.refresh();
        } else if (this.#ended) {
          if (this.#error !== undefined) throw this.#error;
          return;
        } else if (silent) {
          yield keepAlive.message();
          silent = false;
          timer.refresh();
        } else {
          await new Promise<void>((resolve) => {
            this.#wake = resolve;
          });
          this.#wake = undefined;
        }
      }
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
      this.#ended = true;
      this.#items = [];
      this.#queuedBytes = 0;
      this.#onDrain?.();
    }
  }
}
