import type { Clock } from '../clock.ts';

/** Sandboxes come and go; a host's own record of activity is the main one, so the oldest may be forgotten. */
const MAX_SANDBOXES = 50_000;

/** When the API was last asked to do something with each sandbox. In memory: after a restart the hosts' records count. */
export class LastCalls {
  readonly #clock: Clock;
  readonly #atMs = new Map<string, number>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  note(sandboxId: string): void {
    // Taken out and put in, so that the map is in the order of the calls.
    this.#atMs.delete(sandboxId);
    this.#atMs.set(sandboxId, this.#clock.now());
    const [oldest] = this.#atMs.keys();
    if (this.#atMs.size > MAX_SANDBOXES && oldest !== undefined) this.#atMs.delete(oldest);
  }

  /** Milliseconds since the Unix epoch; undefined when there was none. */
  find(sandboxId: string): number | undefined {
    return this.#atMs.get(sandboxId);
  }

  forget(sandboxId: string): void {
    this.#atMs.delete(sandboxId);
  }
}
