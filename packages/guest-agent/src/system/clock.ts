import { checked, libc } from './libc.ts';

const CLOCK_REALTIME = 0;
const NS_PER_SECOND = 1_000_000_000n;
const NS_PER_MICROSECOND = 1_000n;
const MICROSECONDS_PER_SECOND = 1_000_000n;

/** struct timex of 64-bit kernels, in 64-bit words: modes, offset, seven others, the time's seconds and microseconds, … */
const TIMEX_WORDS = 26;
const TIMEX_MODES = 0;
const TIMEX_OFFSET = 1;
const TIMEX_SECONDS = 9;
const TIMEX_MICROSECONDS = 10;
const ADJ_SETOFFSET = 0x0100n;
const ADJ_OFFSET_SINGLESHOT = 0x8001n;

export interface Clock {
  /** Nanoseconds of Unix time. */
  nowNs(): bigint;
  /** Sets the time. Throws SystemCallError. */
  set(unixNs: bigint): void;
  /** Moves the time by so much at once, to the microsecond. Throws SystemCallError. */
  step(offsetNs: bigint): void;
  /** Lets the clock run faster or slower, by half a millisecond a second, until it has moved by so much. Throws SystemCallError. */
  slew(offsetNs: bigint): void;
}

/** The wall clock of the machine. All but looking at it needs root. */
export class WallClock implements Clock {
  readonly #get: (clock: number, time: BigInt64Array) => number = libc().func(
    'int clock_gettime(int clock, void *time)',
  );
  readonly #set: (clock: number, time: BigInt64Array) => number = libc().func(
    'int clock_settime(int clock, const void *time)',
  );
  readonly #adjust: (time: BigInt64Array) => number = libc().func('int adjtimex(void *time)');

  nowNs(): bigint {
    const time = new BigInt64Array(2);
    checked('clock_gettime', this.#get(CLOCK_REALTIME, time));
    const [seconds = 0n, nanoseconds = 0n] = time;
    return seconds * NS_PER_SECOND + nanoseconds;
  }

  set(unixNs: bigint): void {
    const time = BigInt64Array.of(unixNs / NS_PER_SECOND, unixNs % NS_PER_SECOND);
    checked('clock_settime', this.#set(CLOCK_REALTIME, time));
  }

  step(offsetNs: bigint): void {
    // A step also ends a slew that is under way.
    checked('adjtimex', this.#adjust(stepRequest(offsetNs)));
  }

  slew(offsetNs: bigint): void {
    const timex = new BigInt64Array(TIMEX_WORDS);
    timex[TIMEX_MODES] = ADJ_OFFSET_SINGLESHOT;
    timex[TIMEX_OFFSET] = offsetNs / NS_PER_MICROSECOND;
    checked('adjtimex', this.#adjust(timex));
  }
}

/** The struct timex for a step (adjtimex(2), ADJ_SETOFFSET). */
export function stepRequest(offsetNs: bigint): BigInt64Array {
  const timex = new BigInt64Array(TIMEX_WORDS);
  const microseconds = offsetNs / NS_PER_MICROSECOND;
  // The part below a second must not be negative: -0.25 s is -1 s and 0.75 s.
  const fraction = ((microseconds % MICROSECONDS_PER_SECOND) + MICROSECONDS_PER_SECOND) % MICROSECONDS_PER_SECOND;
  timex[TIMEX_MODES] = ADJ_SETOFFSET;
  timex[TIMEX_SECONDS] = (microseconds - fraction) / MICROSECONDS_PER_SECOND;
  timex[TIMEX_MICROSECONDS] = fraction;
  return timex;
}
