import { NestboxError } from '@nestbox/contract';
import type { SandboxRecord } from '../store/sandbox-record.ts';
import type { TimedStage } from './timings.ts';

/** What a resume ends with, the same for all who waited for it. */
export interface Resumed {
  readonly record: SandboxRecord;
  readonly stages: readonly TimedStage[];
}

/** Before a resume began, another server, or somebody who wants the sandbox ended, was quicker: look again. */
export class Overtaken extends Error {
  constructor(sandboxId: string) {
    super(`The state of the sandbox ${sandboxId} has changed.`);
  }
}

/**
 * The pauses and resumptions that this server works on, and its look-ups of what became of earlier ones: one at a time
 * for a sandbox. Whoever finds one in flight waits for it, or shares it. An end does not wait: a kill comes in between.
 */
export class SandboxTransitions {
  readonly #inFlight = new Map<string, Promise<unknown>>();
  readonly #resumes = new Map<string, Promise<Resumed>>();
  readonly #watched = new Set<string>();

  has(sandboxId: string): boolean {
    return this.#inFlight.has(sandboxId);
  }

  /** Resolves when the one in flight has ended, however it ended; at once when there is none. */
  async ended(sandboxId: string): Promise<void> {
    await this.#inFlight.get(sandboxId)?.catch(() => {});
  }

  /** The resume in flight, to be shared. */
  resumeOf(sandboxId: string): Promise<Resumed> | undefined {
    return this.#resumes.get(sandboxId);
  }

  /** Must not be called while one is in flight: look with `has` and call, with nothing awaited in between. */
  run<T>(sandboxId: string, work: () => Promise<T>): Promise<T> {
    if (this.has(sandboxId)) throw new NestboxError('internal', `Two transitions of the sandbox ${sandboxId} at once.`);
    const running = work().finally(() => this.#inFlight.delete(sandboxId));
    this.#inFlight.set(sandboxId, running);
    return running;
  }

  /** The same for a resume, which others can share. */
  runResume(sandboxId: string, work: () => Promise<Resumed>): Promise<Resumed> {
    const resume = this.run(sandboxId, () => work().finally(() => this.#resumes.delete(sandboxId)));
    this.#resumes.set(sandboxId, resume);
    return resume;
  }

  /** Keeps looking after a sandbox that no host told about yet, unless somebody does already. */
  async watch(sandboxId: string, work: () => Promise<void>): Promise<void> {
    if (this.#watched.has(sandboxId)) return;
    this.#watched.add(sandboxId);
    try {
      await work();
    } finally {
      this.#watched.delete(sandboxId);
    }
  }
}
