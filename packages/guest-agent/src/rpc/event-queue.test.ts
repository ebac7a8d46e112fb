import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EventQueue } from './event-queue.ts';

const never = new AbortController().signal;
const keepAlive = { intervalMs: 1000, message: () => 'alive' };

async function collect<T>(events: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const event of events) all.push(event);
  return all;
}

test('events come out in the order they went in, until the end', async () => {
  const queue = new EventQueue<string>();
  for (const event of ['a', 'b', 'c']) queue.push(event);
  queue.end();
  queue.push('late');
  assert.deepEqual(await collect(queue.read(never, keepAlive)), ['a', 'b', 'c']);
});

test('an error ends the stream after what was queued before it', async () => {
  const queue = new EventQueue<string>();
  queue.push('a');
  queue.end(new Error('broken'));
  const events = queue.read(never, keepAlive);
  assert.deepEqual(await events.next(), { done: false, value: 'a' });
  await assert.rejects(events.next(), /broken/);
});

test('an event counts as queued until the next one is asked for, then the maker hears of it', async () => {
  let drained = 0;
  const queue = new EventQueue<string>();
  queue.whenDrained(() => {
    drained += 1;
  });
  queue.push('a', 10);
  queue.push('b', 5);
  const events = queue.read(never, keepAlive);
  await events.next();
  assert.equal(queue.queuedBytes, 15);
  await events.next();
  assert.equal(queue.queuedBytes, 5);
  assert.equal(drained, 0);
  const next = events.next();
  await Promise.resolve();
  assert.equal(queue.queuedBytes, 0);
  assert.equal(drained, 1);
  queue.end();
  assert.equal((await next).done, true);
});

test('silence is broken by keep-alives, before and after an event', async () => {
  const queue = new EventQueue<string>();
  const events = queue.read(never, { ...keepAlive, intervalMs: 5 });
  const seen: (string | undefined)[] = [];
  const take = async () => seen.push((await events.next()).value);
  await take();
  await take();
  queue.push('event');
  await take();
  await take();
  queue.end();
  await events.next();
  assert.deepEqual(seen, ['alive', 'alive', 'event', 'alive']);
});

test('an aborted reader gets the reason, and what was queued is let go', async () => {
  const abort = new AbortController();
  const queue = new EventQueue<string>();
  const events = queue.read(abort.signal, keepAlive);
  const next = events.next();
  queue.push('a', 100);
  assert.equal((await next).value, 'a');
  const waiting = events.next();
  abort.abort(new Error('gone'));
  await assert.rejects(waiting, /gone/);
  assert.equal(queue.queuedBytes, 0);
});
