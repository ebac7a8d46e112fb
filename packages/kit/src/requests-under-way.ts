import type { EventEmitter } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';

/** Default for how long a server that ends waits for the requests under way. */
export const STOP_TIMEOUT_MS = 10_000;

/** Counts requests, so that a server which ends can wait for those under way. */
export class RequestsUnderWay {
  #open = 0;
  #isEnding = false;
  #whenIdle: (() => void) | undefined;

  /** True from the first wait on: answers should say that their connections end. */
  get isEnding(): boolean {
    return this.#isEnding;
  }

  /** To be called as a request begins, with what emits `close` when its answer is out or nobody waits for it any more. */
  track(answer: Pick<EventEmitter, 'once'>): void {
    this.#open += 1;
    answer.once('close', () => {
      this.#open -= 1;
      if (this.#open === 0) this.#whenIdle?.();
    });
  }

  /** Resolves when none is under way, with true, or after `timeoutMs`, with false. */
  async ended(timeoutMs: number): Promise<boolean> {
    this.#isEnding = true;
    if (this.#open === 0) return true;
    const { promise, resolve } = Promise.withResolvers<boolean>();
    this.#whenIdle = () => resolve(true);
    const waiting = new AbortController();
    const timeout = delay(timeoutMs, false, { signal: waiting.signal }).catch(() => false);
    try {
      return await Promise.race([promise, timeout]);
    } finally {
      waiting.abort();
    }
  }
}
