import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EventType } from '@nestbox/contract/filesystem';
import { IN } from '../system/inotify-record.ts';
import { eventTypes } from './event-types.ts';

test('a record with every bit stands for one event of each type, in the order of the wire', () => {
  assert.deepEqual(eventTypes(0xffff_ffff), [
    EventType.CREATE,
    EventType.RENAME,
    EventType.CHMOD,
    EventType.WRITE,
    EventType.REMOVE,
  ]);
});

test('each half of a rename is the event that fsnotify makes of it', () => {
  assert.deepEqual(eventTypes(IN.MOVED_FROM | IN.ISDIR), [EventType.RENAME]);
  assert.deepEqual(eventTypes(IN.MOVED_TO), [EventType.CREATE]);
});

test('the end of a watch is no event', () => {
  assert.deepEqual(eventTypes(IN.IGNORED), []);
});
