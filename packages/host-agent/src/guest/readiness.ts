import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { GuestConnection } from './guest-connection.ts';
import { GuestDeadlineError, GuestError, toGuestError } from './guest-error.ts';
import { openRest } from './rest-call.ts';

/** A user waits for this, so the first looks come fast; the specification's 100 ms is the slowest pace. */
const FIRST_INTERVAL_MS = 5;
const MAX_INTERVAL_MS = 100;
const GROWTH = 1.3;
/** A guest that is still booting swallows packets; dialling afresh beats waiting for TCP to repeat them after a second. */
const DIAL_ATTEMPT_MS = 150;
/** Once it listens it is given time: the first answer of an emulated guest can take a while. */
const ANSWER_TIMEOUT_MS = 5000;

/**
 * Asks `GET /health` until it answers. Throws GuestError: `deadline` after `timeoutMs` (with the last refusal as cause),
 * `aborted` by the signal.
 */
export async function waitUntilReady(guest: GuestConnection, timeoutMs: number, signal?: AbortSignal): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  let intervalMs = FIRST_INTERVAL_MS;
  for (;;) {
    const leftMs = deadline - performance.now();
    try {
      await tryDial(guest, Math.max(1, Math.min(DIAL_ATTEMPT_MS, leftMs)));
      await checkHealth(guest, Math.max(1, Math.min(ANSWER_TIMEOUT_MS, leftMs)), signal);
      return;
    } catch (error) {
      if (signal?.aborted) throw toGuestError(error, 'Waiting for the guest agent', signal);
      if (performance.now() + intervalMs >= deadline)
        throw new GuestError('deadline', `The guest agent was not ready within ${timeoutMs} ms.`, { cause: error });
    }
    try {
      await delay(intervalMs, undefined, signal === undefined ? {} : { signal });
    } catch (error) {
      throw toGuestError(error, 'Waiting for the guest agent', signal);
    }
    intervalMs = Math.min(MAX_INTERVAL_MS, intervalMs * GROWTH);
  }
}

/** One look: throws GuestError unless the guest agent says that it is well. */
export async function checkHealth(guest: GuestConnection, timeoutMs: number, signal?: AbortSignal): Promise<void> {
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(new GuestDeadlineError('health', timeoutMs)), timeoutMs);
  const combined = signal === undefined ? limit.signal : AbortSignal.any([signal, limit.signal]);
  try {
    const response = await openRest(guest, guest.unary, { method: 'GET', path: '/health' }, combined);
    response.resume();
    const status = response.statusCode ?? 0;
    if (status !== 204 && status !== 200)
      throw new GuestError('rejected', `GET /health: the guest agent answered ${status}`, { status });
  } finally {
    clearTimeout(timer);
  }
}

/** Connects and hangs up. Rejects when nobody answers in time, or that nobody listens. */
function tryDial(guest: GuestConnection, timeoutMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: guest.endpoint.address, port: guest.port });
    const settle = (error?: Error) => {
      clearTimeout(timer);
      socket.destroy();
      if (error === undefined) resolve();
      else reject(error);
    };
    const timer = setTimeout(() => settle(new GuestDeadlineError('connect', timeoutMs)), timeoutMs);
    socket.once('connect', () => settle());
    socket.once('error', settle);
  });
}
