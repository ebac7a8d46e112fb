/** One part of what a request waited for. Parts may overlap. */
export interface TimedStage {
  readonly name: string;
  readonly durationMs: number;
}

/** Where the time of one request goes: parts of our own, and those that the host tells of. */
export class Timings {
  readonly #durations = new Map<string, number>();

  /** Runs `work` and adds what it took, whether it succeeds or fails. */
  async measure<T>(name: string, work: () => Promise<T>): Promise<T> {
    const startMs = performance.now();
    try {
      return await work();
    } finally {
      this.#add(name, performance.now() - startMs);
    }
  }

  add(stages: Iterable<TimedStage>): void {
    for (const { name, durationMs } of stages) this.#add(name, durationMs);
  }

  /** In the order in which they came, those of the same name together. */
  list(): TimedStage[] {
    return [...this.#durations].map(([name, durationMs]) => ({ name, durationMs }));
  }

  #add(name: string, durationMs: number): void {
    this.#durations.set(name, (this.#durations.get(name) ?? 0) + durationMs);
  }
}
