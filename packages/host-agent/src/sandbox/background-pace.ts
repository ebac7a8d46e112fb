import { setTimeout as delay } from 'node:timers/promises';
import type { BootGate } from './boot-gate.ts';

/** After a start nothing is done for so long. */
const QUIET_MS = 300;
/** A host on which sandboxes start all the time does a little all the same. */
const MAX_WAIT_MS = 2000;
/** What a step that took longer counts for: it has waited for others. */
const MAX_STEP_MS = 200;

/**
 * Lets work in the background take that part of the time alone, and none while a sandbox starts: to be waited for between its steps. Rejects with
 * the signal's reason.
 */
export function backgroundPace(gate: BootGate, part: number, signal: AbortSignal): () => Promise<void> {
  // Before the first step it may have waited for its turn.
  let begunMs: number | undefined;
  return async () => {
    const workedMs = begunMs === undefined ? 0 : Math.min(performance.now() - begunMs, MAX_STEP_MS);
    await delay(workedMs * (1 / part - 1), undefined, { signal, ref: false });
    const longest = AbortSignal.any([signal, AbortSignal.timeout(MAX_WAIT_MS)]);
    await gate.whenQuiet(QUIET_MS, longest).catch(() => signal.throwIfAborted());
    begunMs = performance.now();
  };
}
