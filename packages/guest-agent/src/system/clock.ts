import { checked, libc } from './libc.ts';

const CLOCK_REALTIME = 0;
const NS_PER_SECOND = 1_000_000_000n;

/** The wall clock, in nanoseconds of Unix time. */
export class WallClock {
  readonly #get: (clock: number, time: BigInt64Array) => number = libc().func(
    'int clock_gettime(int clock, void *time)',
  );
  readonly #set: (clock: number, time: BigInt64Array) => number = libc().func(
    'int clock_settime(int clock, const void *time)',
  );

  nowNs(): bigint {
    const time = new BigInt64Array(2);
    checked('clock_gettime', this.#get(CLOCK_REALTIME, time));
    const [seconds = 0n, nanoseconds = 0n] = time;
    return seconds * NS_PER_SECOND + nanoseconds;
  }

  /** Needs root. Throws SystemCallError. */
  set(unixNs: bigint): void {
    const time = BigInt64Array.of(unixNs / NS_PER_SECOND, unixNs % NS_PER_SECOND);
    checked('clock_settime', this.#set(CLOCK_REALTIME, time));
  }
}
