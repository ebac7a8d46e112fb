import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { withCode } from '../testing/sandbox-checks.ts';
import { makeTestHost, testSpec } from '../testing/test-host.ts';
import { Trace, TraceBook } from './trace.ts';

describe('a trace', () => {
  test('notes each part by when it began and how long it took, also of parts that overlap or fail', async () => {
    const trace = new Trace();
    const slow = trace.measure('slow', () => delay(60));
    const result = await trace.measure('quick', async () => 'done');
    await assert.rejects(
      trace.measure('failing', async () => {
        throw new Error('no');
      }),
      /no/,
    );
    await slow;
    assert.equal(result, 'done');
    assert.deepEqual(
      trace.stages.map(({ name }) => name),
      ['slow', 'quick', 'failing'],
      'in the order of their begin',
    );
    const [first, second] = trace.stages;
    assert.ok(first !== undefined && second !== undefined);
    assert.ok(first.durationMs >= 55 && first.durationMs <= trace.elapsedMs);
    assert.ok(second.startMs >= first.startMs && second.durationMs < first.durationMs);
  });
});

describe('a book of traces', () => {
  test('keeps the latest operations of a sandbox, newest first, with their errors', async () => {
    const book = new TraceBook();
    assert.deepEqual(book.of('i1'), []);
    for (let number = 1; number <= 12; number++)
      await book.record('i1', `operation ${number}`, (trace) => trace.measure('part', async () => number));
    await assert.rejects(
      book.record('i1', 'failing', async () => {
        throw new Error('what went wrong');
      }),
    );
    const operations = book.of('i1');
    assert.deepEqual(
      operations.map(({ name }) => name),
      ['failing', ...[12, 11, 10, 9, 8, 7, 6, 5, 4].map((number) => `operation ${number}`)],
    );
    assert.equal(operations[0]?.error, 'what went wrong');
    assert.equal(operations[1]?.error, undefined);
    assert.deepEqual(
      operations[1]?.stages.map(({ name }) => name),
      ['part'],
    );
    assert.ok(Math.abs((operations[0]?.startedAtMs ?? 0) - Date.now()) < 10_000);
  });

  test('answers the result with its parts', async () => {
    const answer = await new TraceBook().record('i1', 'create', (trace) => trace.measure('part', async () => 7));
    assert.equal(answer.result, 7);
    assert.deepEqual(
      answer.stages.map(({ name }) => name),
      ['part'],
    );
  });

  test('forgets the sandboxes that it has not heard of for longest', async () => {
    const book = new TraceBook();
    const nothing = async () => {};
    for (let number = 0; number < 1000; number++) await book.record(`i${number}`, 'create', nothing);
    await book.record('i0', 'pause', nothing);
    await book.record('one more', 'create', nothing);
    assert.equal(book.of('i0').length, 2);
    assert.deepEqual(book.of('i1'), []);
    assert.equal(book.of('i2').length, 1);
    assert.equal(book.of('one more').length, 1);
  });
});

test('the manager tells where the time of a sandbox’s operations went, also of one that is gone', async (t) => {
  const testHost = await makeTestHost(t);
  const { manager } = await testHost.start();
  const { sandboxId } = (await manager.create(testSpec())).result;
  await manager.pause(sandboxId, { memory: true });
  await assert.rejects(manager.pause(sandboxId, { memory: true }), withCode('sandbox_paused'));
  await manager.resume(sandboxId, { memory: true });
  await manager.snapshot(sandboxId, { templateId: 'snap', names: [] });
  const copy = testSpec().sandboxId;
  await manager.fork(sandboxId, [{ sandboxId: copy, accessToken: undefined }]);
  await manager.destroy(sandboxId);
  const operations = manager.operations(sandboxId);
  assert.deepEqual(
    operations.map(({ name }) => name),
    ['fork', 'snapshot', 'resume', 'pause', 'pause', 'create'],
  );
  assert.match(operations[3]?.error ?? '', /is paused/);
  for (const { stages, error } of operations) {
    assert.ok(error !== undefined || stages.length > 0);
    for (const { startMs, durationMs } of stages) assert.ok(startMs >= 0 && durationMs >= 0);
  }
  assert.deepEqual(
    manager.operations(copy).map(({ name }) => name),
    ['create'],
  );
});
