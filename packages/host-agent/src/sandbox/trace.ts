/** One part of an operation, in milliseconds from its begin. Parts may overlap. */
export interface Stage {
  readonly name: string;
  readonly startMs: number;
  readonly durationMs: number;
}

/** Where the time of one operation goes. */
export class Trace {
  readonly #begunMs = performance.now();
  readonly #stages: Stage[] = [];

  get stages(): readonly Stage[] {
    return this.#stages.toSorted((a, b) => a.startMs - b.startMs);
  }

  get elapsedMs(): number {
    return performance.now() - this.#begunMs;
  }

  /** Notes a part when it has ended, however it ended. */
  async measure<T>(name: string, part: () => Promise<T>): Promise<T> {
    const startMs = this.elapsedMs;
    try {
      return await part();
    } finally {
      this.#stages.push({ name, startMs, durationMs: this.elapsedMs - startMs });
    }
  }
}

export interface TracedOperation {
  readonly name: string;
  readonly startedAtMs: number;
  readonly stages: readonly Stage[];
  /** Undefined: it succeeded. */
  readonly error: string | undefined;
}

const KEPT_OPERATIONS = 10;
const KEPT_SANDBOXES = 1000;

/** The latest operations of the latest sandboxes, for those who ask where the time went. */
export class TraceBook {
  readonly #operations = new Map<string, TracedOperation[]>();

  /** Newest first. */
  of(sandboxId: string): readonly TracedOperation[] {
    return this.#operations.get(sandboxId) ?? [];
  }

  /** Runs an operation and notes where its time went. */
  async record<T>(sandboxId: string, name: string, operation: (trace: Trace) => Promise<T>): Promise<Traced<T>> {
    const trace = new Trace();
    const startedAtMs = Date.now();
    let error: string | undefined;
    try {
      return { result: await operation(trace), stages: trace.stages };
    } catch (cause) {
      error = cause instanceof Error ? cause.message : String(cause);
      throw cause;
    } finally {
      this.#note(sandboxId, { name, startedAtMs, stages: trace.stages, error });
    }
  }

  #note(sandboxId: string, operation: TracedOperation): void {
    const known = this.#operations.get(sandboxId) ?? [];
    // Put back at the end: the first of the map is the one that was heard of least recently.
    this.#operations.delete(sandboxId);
    this.#operations.set(sandboxId, [operation, ...known].slice(0, KEPT_OPERATIONS));
    if (this.#operations.size <= KEPT_SANDBOXES) return;
    const oldest = this.#operations.keys().next();
    if (oldest.done !== true) this.#operations.delete(oldest.value);
  }
}

export interface Traced<T> {
  readonly result: T;
  readonly stages: readonly Stage[];
}
