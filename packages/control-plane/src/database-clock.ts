import { type Clock, systemClock } from './clock.ts';

/**
 * The time of the database, which all servers on it share: their machines' clocks may differ, and may be set. Between two
 * looks at the database's it goes on by the monotonic clock.
 */
export class DatabaseClock implements Clock {
  #atMs = Date.now();
  #setAtMs = performance.now();

  now(): number {
    return Math.round(this.#atMs + performance.now() - this.#setAtMs);
  }

  sleep(ms: number, signal: AbortSignal): Promise<void> {
    return systemClock.sleep(ms, signal);
  }

  /** `databaseMs` was the time somewhere between two readings of `performance.now()`. */
  set(databaseMs: number, askedAtMs: number, answeredAtMs: number): void {
    this.#atMs = databaseMs;
    this.#setAtMs = (askedAtMs + answeredAtMs) / 2;
  }
}
