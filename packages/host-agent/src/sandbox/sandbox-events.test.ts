import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { SandboxInfo } from './sandbox.ts';
import { SandboxEvents } from './sandbox-events.ts';

function info(sandboxId: string, state: SandboxInfo['state'] = 'running'): SandboxInfo {
  return {
    sandboxId,
    templateId: 't',
    state,
    vcpuCount: 1,
    memoryMib: 1,
    diskMib: 1,
    createdAtMs: 0,
    envdVersion: '',
    reason: undefined,
    pausedMemory: false,
    damage: undefined,
  };
}

test('a slow watcher gets the newest state of each sandbox, in the order of their first change', async () => {
  const events = new SandboxEvents();
  const watch = events.watch(() => [], new AbortController().signal);
  await watch.next();
  events.publish(info('a', 'starting'));
  events.publish(info('b', 'starting'));
  events.publish(info('a', 'running'));
  const seen = [await watch.next(), await watch.next()].map(({ value }) =>
    value?.kind === 'changed' ? `${value.sandbox.sandboxId} ${value.sandbox.state}` : '',
  );
  assert.deepEqual(seen, ['a running', 'b starting']);
  await watch.return();
});

test('a watcher that is too far behind gets the whole list again', async () => {
  const events = new SandboxEvents();
  const watch = events.watch(() => [info('now')], new AbortController().signal);
  await watch.next();
  for (let i = 0; i < 5000; i++) events.publish(info(`i${i}`));
  const { value } = await watch.next();
  assert.deepEqual(value, { kind: 'snapshot', sandboxes: [info('now')] });
  await watch.return();
});

test('a watch ends with its caller, and all of them when the events are closed', async () => {
  const events = new SandboxEvents();
  const caller = new AbortController();
  const first = events.watch(() => [], caller.signal);
  const second = events.watch(() => [], new AbortController().signal);
  await first.next();
  await second.next();
  const firstNext = first.next();
  const secondNext = second.next();
  caller.abort();
  assert.equal((await firstNext).done, true);
  events.close();
  assert.equal((await secondNext).done, true);
  const late = events.watch(() => [], AbortSignal.abort());
  assert.equal((await late.next()).done, true);
});
