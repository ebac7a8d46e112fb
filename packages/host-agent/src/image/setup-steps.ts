import { performance } from 'node:perf_hooks';
import { SETUP_STEPS, type SetupProgress, type SetupStep } from './setup-types.ts';

/** What a step's task says at its end. */
export interface StepOutcome<T> {
  readonly value: T;
  /** True: everything was there already. */
  readonly skipped: boolean;
  readonly detail?: string;
}

/**
 * Runs one step and reports its begin, its progress and its end with the time it took. Errors are reported as `failed`
 * and thrown on.
 */
export async function runStep<T>(
  step: SetupStep,
  onProgress: (event: SetupProgress) => void,
  task: (onDetail: (detail: string) => void) => Promise<StepOutcome<T>>,
  signal?: AbortSignal,
): Promise<T> {
  const title = SETUP_STEPS[step];
  const startedMs = performance.now();
  const elapsedMs = () => Math.round(performance.now() - startedMs);
  onProgress({ step, title, state: 'started' });
  try {
    const { value, skipped, detail } = await task((text) =>
      onProgress({ step, title, state: 'progress', detail: text, elapsedMs: elapsedMs() }),
    );
    onProgress({
      step,
      title,
      state: skipped ? 'skipped' : 'done',
      elapsedMs: elapsedMs(),
      ...(detail !== undefined && { detail }),
    });
    return value;
  } catch (error) {
    // Tools that are ended in the middle have much to say about it, and nobody has asked.
    const reason: unknown = signal?.aborted ? signal.reason : error;
    const detail = reason instanceof Error ? reason.message : String(reason);
    onProgress({ step, title, state: 'failed', detail, elapsedMs: elapsedMs() });
    throw error;
  }
}
