import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gate } from '../testing/sandbox-checks.ts';
import { BootGate } from './boot-gate.ts';

const NEVER = new AbortController().signal;

/** Begins a task that ends when it is told to. */
function begin(boots: BootGate, name: string, log: string[], signal = NEVER) {
  const end = gate();
  const done = boots.run(async () => {
    log.push(name);
    await end.promise;
    return name;
  }, signal);
  done.catch(() => undefined);
  return { done, end: end.open };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

test('so many tasks run at once, and the others have their turn in order', async () => {
  const boots = new BootGate(2);
  const log: string[] = [];
  const tasks = ['a', 'b', 'c', 'd'].map((name) => begin(boots, name, log));
  await turn();
  assert.deepEqual(log, ['a', 'b']);
  tasks[1]?.end();
  assert.equal(await tasks[1]?.done, 'b');
  await turn();
  assert.deepEqual(log, ['a', 'b', 'c']);
  for (const { end } of tasks) end();
  await Promise.all(tasks.map(({ done }) => done));
  assert.deepEqual(log, ['a', 'b', 'c', 'd']);
});

test('a task that fails gives its place free, and one that is given up before its turn is never run', async () => {
  const boots = new BootGate(1);
  const log: string[] = [];
  const running = begin(boots, 'first', log);
  const abort = new AbortController();
  const waiting = begin(boots, 'never', log, abort.signal);
  const last = begin(boots, 'last', log);
  abort.abort(new Error('given up'));
  await assert.rejects(waiting.done, /given up/);
  await assert.rejects(begin(boots, 'never', log, AbortSignal.abort(new Error('too late'))).done, /too late/);
  running.end();
  last.end();
  await last.done;
  await assert.rejects(
    boots.run(async () => {
      throw new Error('it failed');
    }, NEVER),
    /it failed/,
  );
  await begin(boots, 'after', log).end();
  assert.deepEqual(log, ['first', 'last', 'after']);
});

test('it is quiet when nothing has run for so long', async () => {
  const boots = new BootGate(2);
  await boots.whenQuiet(0, NEVER);
  const task = begin(boots, 'task', []);
  let quietAfterMs: number | undefined;
  const begun = performance.now();
  const quiet = boots.whenQuiet(80, NEVER).then(() => {
    quietAfterMs = performance.now() - begun;
  });
  setTimeout(task.end, 120);
  await quiet;
  assert.ok((quietAfterMs ?? 0) >= 190, `after ${quietAfterMs} ms`);
  const another = begin(boots, 'another', []);
  await assert.rejects(boots.whenQuiet(10, AbortSignal.timeout(50)));
  another.end();
});
