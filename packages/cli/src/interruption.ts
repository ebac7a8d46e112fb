import { constants } from 'node:os';

export type InterruptSignal = 'SIGINT' | 'SIGTERM' | 'SIGHUP';

const SIGNALS: readonly InterruptSignal[] = ['SIGINT', 'SIGTERM', 'SIGHUP'];

/** One press of Ctrl-C may arrive more than once: from the terminal, and again from the npm that started us. */
const SAME_PRESS_MS = 500;

/** The reason of an AbortSignal that was aborted because the user or the system asked the process to end. */
export class Interruption extends Error {
  override readonly name = 'Interruption';
  readonly signal: InterruptSignal;

  constructor(signal: InterruptSignal) {
    super(`interrupted by ${signal}`);
    this.signal = signal;
  }

  get exitCode(): number {
    return 128 + constants.signals[this.signal];
  }
}

/**
 * Aborts `signal` at the first SIGINT, SIGTERM or SIGHUP, so that everything can be ended in order.
 * A second one while that is going on ends the process at once.
 */
export class InterruptGuard implements Disposable {
  readonly #abort = new AbortController();
  readonly #listeners: readonly (readonly [InterruptSignal, () => void])[];
  #firstAtMs: number | undefined;

  constructor() {
    this.#listeners = SIGNALS.map((name) => [name, () => this.#onSignal(name)]);
    for (const [name, listener] of this.#listeners) process.on(name, listener);
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  #onSignal(name: InterruptSignal): void {
    const interruption = new Interruption(name);
    if (this.#firstAtMs === undefined) {
      this.#firstAtMs = performance.now();
      this.#abort.abort(interruption);
    } else if (performance.now() - this.#firstAtMs > SAME_PRESS_MS) process.exit(interruption.exitCode);
  }

  [Symbol.dispose](): void {
    for (const [name, listener] of this.#listeners) process.off(name, listener);
  }
}
