import type { Clock } from '../system/clock.ts';

const MAX_BEHIND_NS = 50_000_000n;
const MAX_AHEAD_NS = 5_000_000_000n;
/** A slew of more would take longer than a minute, and a step of less is worse than the difference: time runs backwards. */
const MIN_STEP_NS = 20_000_000n;

/** Whether a clock that shows `nowNs` must be set when the host says `hostNs` (envd-interface.md, section 5.4). */
export function mustSetClock(nowNs: bigint, hostNs: bigint): boolean {
  return hostNs - nowNs > MAX_BEHIND_NS || nowNs - hostNs > MAX_AHEAD_NS;
}

/** Corrects the clock by so much. Returns what that changed at once: all or nothing. Throws SystemCallError. */
export function correctClock(clock: Clock, offsetNs: bigint): bigint {
  const distance = offsetNs < 0n ? -offsetNs : offsetNs;
  if (distance < MIN_STEP_NS) {
    clock.slew(offsetNs);
    return 0n;
  }
  clock.step(offsetNs);
  return offsetNs;
}
