import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { EventType, FilesystemEventSchema } from '@nestbox/contract/filesystem';
import { PolledWatcher } from './polled-watchers.ts';

test('events that nobody fetches do not grow without end: the watcher fails and says so', async () => {
  const watcher = new PolledWatcher();
  const event = create(FilesystemEventSchema, { name: 'a', type: EventType.WRITE });
  for (let count = 0; count < 100_000; count += 1) watcher.onEvent(event);
  assert.equal((await watcher.takeEvents()).length, 100_000);
  for (let count = 0; count < 100_001; count += 1) watcher.onEvent(event);
  await assert.rejects(watcher.takeEvents(), /watcher error: more than 100000 events .* overflow/);
});
