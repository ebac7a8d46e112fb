import { z } from 'zod';
import type { GuestConnection } from './guest-connection.ts';
import { GuestError } from './guest-error.ts';
import { hostTimeUs } from './host-clock.ts';
import { callJson } from './rest-call.ts';

/** How far a guest's clock is from the host's. */
export interface ClockOffset {
  /** Guest minus host. Wrong by half of the round trip at most. */
  readonly offsetMs: number;
  /** What the question took, without the time that the guest had it in hand. */
  readonly roundTripMs: number;
}

/** The best of two counts: in a guest that was just restored, the first goes through code that is not translated yet. */
const QUESTIONS = 2;
/** Where the answer to the correction does not bear it out. */
const QUESTIONS_IN_DOUBT = 4;
/** Quicker than this, a further question would hardly do better. */
const GOOD_ROUND_TRIP_MS = 5;
/** An answer as quick as this is believed in what it says of the clock. */
const GOOD_LOOK_MS = 60;
/** Less cannot be told from how the way there and the way back differ. */
const MIN_CORRECTION_MS = 1;
/** What is still off by more, beyond doubt, was corrected by a wrong measurement. */
const MAX_LEFT_MS = 20;

const unixNs = z.string().regex(/^\d{1,20}$/);
const clockAnswer = z.object({ received_ns: unixNs, sent_ns: unixNs });

export interface ClockSync extends ClockOffset {
  /** How far the clock was off when it was looked at first: how much it strays. */
  readonly foundMs: number;
}

/**
 * Sets the guest's clock by the host's, to a few milliseconds also where a request takes tens of them: asks the guest for its
 * times, takes the quickest answer, corrects, and looks again (the simple case of RFC 5905, section 8). Differences
 * below 20 ms the guest evens out over the next seconds. Returns how far the clocks were apart at
 * the last look, and at the first. Throws GuestError.
 */
export async function syncClock(guest: GuestConnection, signal?: AbortSignal): Promise<ClockSync> {
  const found = await measure(guest, QUESTIONS, undefined, signal);
  // A guest that has much to do answers late, and of that half may be error: a clock that may be right is left alone.
  const isInDoubt = found.roundTripMs > GOOD_LOOK_MS && !isBeyondDoubt(found);
  const isRight = Math.abs(found.offsetMs) < MIN_CORRECTION_MS;
  const left = isRight || isInDoubt ? found : await correct(guest, found, signal);
  return { ...left, foundMs: found.offsetMs };
}

/** Answers what is left. */
async function correct(
  guest: GuestConnection,
  found: ClockOffset,
  signal: AbortSignal | undefined,
): Promise<ClockOffset> {
  // The answer to a correction tells the time after it, so it is the second look as well.
  const second = await ask(guest, -found.offsetMs, signal);
  if (Math.abs(second.offsetMs) < MAX_LEFT_MS) return second;
  const left = await measure(guest, QUESTIONS_IN_DOUBT, second, signal);
  if (Math.abs(left.offsetMs) - left.roundTripMs / 2 < MAX_LEFT_MS) return left;
  return ask(guest, -left.offsetMs, signal);
}

/** The quickest of some answers, `first` among them. */
async function measure(
  guest: GuestConnection,
  questions: number,
  first: ClockOffset | undefined,
  signal: AbortSignal | undefined,
): Promise<ClockOffset> {
  let best = first ?? (await ask(guest, undefined, signal));
  for (let asked = 1; asked < questions && best.roundTripMs > GOOD_ROUND_TRIP_MS; asked++) {
    const next = await ask(guest, undefined, signal);
    if (next.roundTripMs < best.roundTripMs) best = next;
  }
  return best;
}

/** Less is within what the way there and back hide on a busy machine. */
const CLOSE_MS = 10;
const LOOKS = 8;

/**
 * Moves the guest's clock by so much, positive for later, and then by what is left until it is close. Half of an answer's round
 * trip may be error (a guest that was just restored takes long over its first ones): what is less than that is looked at again
 * and not corrected. Throws GuestError.
 */
export async function moveClock(guest: GuestConnection, byMs: number, signal?: AbortSignal): Promise<void> {
  let left = await ask(guest, byMs, signal);
  for (let looks = 1; looks < LOOKS && !isClose(left); looks++)
    left = await ask(guest, isBeyondDoubt(left) ? -left.offsetMs : undefined, signal);
}

/** Tells a guest whose processor's counter runs at another rate on this host to read the time by another one. Throws GuestError. */
export async function leaveProcessorCounter(guest: GuestConnection, signal?: AbortSignal): Promise<void> {
  await postClock(guest, { leave_tsc: true }, signal);
}

function isClose({ offsetMs, roundTripMs }: ClockOffset): boolean {
  return Math.abs(offsetMs) <= CLOSE_MS && roundTripMs <= GOOD_LOOK_MS;
}

function isBeyondDoubt({ offsetMs, roundTripMs }: ClockOffset): boolean {
  return Math.abs(offsetMs) > roundTripMs / 2;
}

/** One question. With a correction the guest moves its clock by so much first. */
async function ask(
  guest: GuestConnection,
  correctionMs: number | undefined,
  signal: AbortSignal | undefined,
): Promise<ClockOffset> {
  const asked = correctionMs === undefined ? {} : { offset_ns: toNanoseconds(correctionMs) };
  const askedUs = hostTimeUs();
  const answer = await postClock(guest, asked, signal);
  const answeredUs = hostTimeUs();
  const receivedUs = toMicroseconds(answer.received_ns);
  const sentUs = toMicroseconds(answer.sent_ns);
  const roundTripUs = answeredUs - askedUs - (sentUs - receivedUs);
  if (sentUs < receivedUs) throw new GuestError('protocol', 'POST /clock: the guest answered before it was asked.');
  return {
    offsetMs: (receivedUs - askedUs + (sentUs - answeredUs)) / 2 / 1000,
    // Below zero only with a guest that lies, or a host whose clock was set meanwhile.
    roundTripMs: Math.max(0, roundTripUs) / 1000,
  };
}

function postClock(
  guest: GuestConnection,
  asked: { readonly offset_ns?: number; readonly leave_tsc?: boolean },
  signal: AbortSignal | undefined,
) {
  const body = JSON.stringify(asked);
  const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
  return callJson(guest, { method: 'POST', path: '/clock', headers, body }, clockAnswer, signal);
}

/** Microseconds of this millennium are whole numbers that JavaScript can hold, nanoseconds are not. */
function toMicroseconds(unixNs: string): number {
  return Number(BigInt(unixNs) / 1000n);
}

function toNanoseconds(ms: number): number {
  const ns = Math.round(ms * 1_000_000);
  return Math.min(Number.MAX_SAFE_INTEGER, Math.max(Number.MIN_SAFE_INTEGER, ns));
}
