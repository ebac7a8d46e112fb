import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { gate as closedGate } from '../testing/sandbox-checks.ts';
import { backgroundPace } from './background-pace.ts';
import { BootGate } from './boot-gate.ts';

/** Timers of the pace itself keep no process alive. */
async function timed(work: Promise<void>): Promise<number> {
  const begun = performance.now();
  const alive = setInterval(() => {}, 1000);
  try {
    await work;
  } finally {
    clearInterval(alive);
  }
  return performance.now() - begun;
}

test('work in the background rests for as long as its part of the time says, and not for what it has waited before', async () => {
  const pace = backgroundPace(new BootGate(1), 0.25, new AbortController().signal);
  await delay(600);
  // Nothing has started lately.
  assert.ok((await timed(pace())) < 400);
  await delay(50);
  assert.ok((await timed(pace())) >= 140);
});

test('it waits while a sandbox starts, but not for ever', async () => {
  const gate = new BootGate(1);
  const { signal } = new AbortController();
  const start = closedGate();
  const starting = gate.run(() => start.promise, signal);
  const pace = backgroundPace(gate, 1, signal);
  const first = timed(pace());
  await delay(200);
  start.open();
  await starting;
  assert.ok((await first) >= 400, 'and a while after it');
  const next = closedGate();
  const long = gate.run(() => next.promise, signal);
  const waited = await timed(pace());
  assert.ok(waited >= 1500 && waited < 20_000, `${waited} ms`);
  next.open();
  await long;
});

test('it ends with its signal, with the reason of that', async () => {
  const abort = new AbortController();
  const gate = new BootGate(1);
  const start = closedGate();
  const starting = gate.run(() => start.promise, new AbortController().signal);
  const pacing = timed(backgroundPace(gate, 0.5, abort.signal)());
  const reason = new Error('somebody needs the disk');
  setTimeout(() => abort.abort(reason), 50);
  await assert.rejects(pacing, (error: unknown) => error === reason || Object(error).cause === reason);
  start.open();
  await starting;
});
