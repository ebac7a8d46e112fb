import { once } from 'node:events';
import type { Clock } from '../clock.ts';

/** A clock that stands still until a test moves it. */
export class ManualClock implements Clock {
  #nowMs: number;
  readonly #sleepers = new Set<{ untilMs: number; readonly wake: () => void }>();
  readonly #changes = new EventTarget();

  constructor(nowMs = Date.now()) {
    this.#nowMs = nowMs;
  }

  now(): number {
    return this.#nowMs;
  }

  sleep(ms: number, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return Promise.resolve();
    const { promise, resolve } = Promise.withResolvers<void>();
    const sleeper = {
      untilMs: this.#nowMs + ms,
      wake: () => {
        this.#sleepers.delete(sleeper);
        resolve();
      },
    };
    this.#sleepers.add(sleeper);
    signal.addEventListener('abort', sleeper.wake, { once: true });
    this.#changes.dispatchEvent(new Event('sleep'));
    return promise;
  }

  /** Moves time and wakes who has slept long enough. */
  advance(ms: number): void {
    this.#nowMs += ms;
    for (const sleeper of [...this.#sleepers]) if (sleeper.untilMs <= this.#nowMs) sleeper.wake();
  }

  /** Moves the wall clock alone, as `settimeofday` does: sleepers notice nothing. */
  jump(ms: number): void {
    this.#nowMs += ms;
    for (const sleeper of this.#sleepers) sleeper.untilMs += ms;
  }

  /** Resolves when somebody sleeps exactly this long from now on. */
  async untilSleeping(ms: number): Promise<void> {
    while (![...this.#sleepers].some(({ untilMs }) => untilMs === this.#nowMs + ms)) await once(this.#changes, 'sleep');
  }
}
