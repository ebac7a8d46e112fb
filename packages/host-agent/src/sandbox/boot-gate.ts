import { setTimeout as delay } from 'node:timers/promises';

/** Lets so many tasks run at once; the others wait their turn in order. */
export class BootGate {
  readonly #slots: number;
  #free: number;
  readonly #waiting: (() => void)[] = [];
  #lastEndMs = 0;

  constructor(slots: number) {
    this.#slots = slots;
    this.#free = slots;
  }

  /** Rejects with the signal's reason when it is aborted before the task's turn. */
  async run<T>(task: () => Promise<T>, signal: AbortSignal): Promise<T> {
    await this.#enter(signal);
    try {
      return await task();
    } finally {
      this.#leave();
    }
  }

  /** Resolves when nothing has run for so long. Rejects with the signal's reason. */
  async whenQuiet(quietMs: number, signal: AbortSignal): Promise<void> {
    for (;;) {
      const quietForMs = this.#free < this.#slots ? 0 : performance.now() - this.#lastEndMs;
      if (quietForMs >= quietMs) return;
      await delay(quietMs - quietForMs, undefined, { signal, ref: false });
    }
  }

  #enter(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) {
        reject(signal.reason);
        return;
      }
      if (this.#free > 0) {
        this.#free -= 1;
        resolve();
        return;
      }
      const turn = () => {
        signal.removeEventListener('abort', giveUp);
        resolve();
      };
      const giveUp = () => {
        this.#waiting.splice(this.#waiting.indexOf(turn), 1);
        reject(signal.reason);
      };
      this.#waiting.push(turn);
      signal.addEventListener('abort', giveUp, { once: true });
    });
  }

  #leave(): void {
    this.#lastEndMs = performance.now();
    const next = this.#waiting.shift();
    if (next === undefined) this.#free += 1;
    else next();
  }
}
