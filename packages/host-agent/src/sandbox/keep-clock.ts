import type { Logger } from '@nestbox/kit';
import type { GuestClient } from '../guest/guest-client.ts';

/** How often a guest's clock is compared with ours: more often the more it strays. */
const FIRST_LOOK_MS = 1500;
const FIRST_SYNC_MS = 30_000;
const SHORTEST_SYNC_MS = 15_000;
const LONGEST_SYNC_MS = 2 * 60_000;
/** A clock that strays less than this between two looks is looked at half as often. */
const STEADY_MS = 5;
const SYNC_TIMEOUT_MS = 10_000;
/** Where the rate itself is in doubt. */
const DOUBT_MS = 1500;
/** Crystals of the same kind differ by a fiftieth of this. */
const WRONG_RATE = 0.002;
/** What one comparison may be wrong by on a busy host, besides half of its own round trip. */
const SLACK_MS = 25;

type ClockedGuest = Pick<GuestClient, 'syncClock' | 'leaveProcessorCounter'>;

/**
 * Keeps a guest's clock in step until the returned function is called. The first comparison is soon: what `init` corrects is off by the time
 * that the guest's answer took.
 *
 * Under emulation a guest counts time by the host's processor, and has measured once, when it booted, how fast that counts. One that has come
 * from a host with another rate would run away from us faster than it can be corrected: seen twice in a row, it is told to read the time by
 * a slower counter that QEMU keeps in nanoseconds.
 */
export function keepClock(guest: ClockedGuest, logger: Logger): () => void {
  const stopped = new AbortController();
  let intervalMs = FIRST_SYNC_MS;
  let waitMs = FIRST_LOOK_MS;
  let isInDoubt = false;
  let timer: NodeJS.Timeout | undefined;
  const sync = async () => {
    const limit = AbortSignal.any([stopped.signal, AbortSignal.timeout(SYNC_TIMEOUT_MS)]);
    const { foundMs, roundTripMs } = await guest.syncClock(limit);
    const strays = hasWrongRate(waitMs, foundMs, roundTripMs);
    if (strays && isInDoubt) {
      logger.warn(
        { foundMs },
        'the processor counts time at another rate than where this guest booted; it reads the time otherwise now',
      );
      await guest.leaveProcessorCounter(limit);
    }
    isInDoubt = strays && !isInDoubt;
    intervalMs = nextInterval(intervalMs, foundMs);
  };
  const look = async () => {
    try {
      await sync();
    } catch (error) {
      if (stopped.signal.aborted) return;
      logger.debug({ err: error }, 'the clock of a guest could not be compared');
    }
    waitMs = isInDoubt ? DOUBT_MS : intervalMs;
    if (!stopped.signal.aborted) timer = setTimeout(() => void look(), waitMs).unref();
  };
  timer = setTimeout(() => void look(), waitMs).unref();
  return () => {
    stopped.abort();
    clearTimeout(timer);
  };
}

/** Whether a clock that was right `elapsedMs` ago has strayed by so much that it must run at another rate. */
export function hasWrongRate(elapsedMs: number, foundMs: number, roundTripMs: number): boolean {
  return Math.abs(foundMs) - roundTripMs / 2 - SLACK_MS > elapsedMs * WRONG_RATE;
}

export function nextInterval(intervalMs: number, foundMs: number): number {
  const next = Math.abs(foundMs) < STEADY_MS ? intervalMs * 2 : intervalMs / 2;
  return Math.min(LONGEST_SYNC_MS, Math.max(SHORTEST_SYNC_MS, next));
}
