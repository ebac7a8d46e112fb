import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KeyedMutex } from './keyed-mutex.ts';

test('tasks of one key run one after another in the order they came', async () => {
  const mutex = new KeyedMutex();
  const log: string[] = [];
  const task = (name: string) => async () => {
    log.push(`${name}+`);
    await new Promise((resolve) => setImmediate(resolve));
    log.push(`${name}-`);
  };
  await Promise.all([mutex.run('k', task('a')), mutex.run('k', task('b')), mutex.run('k', task('c'))]);
  assert.deepEqual(log, ['a+', 'a-', 'b+', 'b-', 'c+', 'c-']);
});

test('different keys do not wait for each other', async () => {
  const mutex = new KeyedMutex();
  const gate = Promise.withResolvers<void>();
  const held = mutex.run('a', () => gate.promise);
  assert.equal(await mutex.run('b', async () => 'through'), 'through');
  gate.resolve();
  await held;
});

test('a task that fails lets the next one in', async () => {
  const mutex = new KeyedMutex();
  const failed = mutex.run('k', async () => {
    throw new Error('no');
  });
  const next = mutex.run('k', async () => 1);
  await assert.rejects(failed, /no/);
  assert.equal(await next, 1);
});
