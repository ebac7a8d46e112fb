import { EventType } from '@nestbox/contract/filesystem';
import { IN } from '../system/inotify-record.ts';

/** What fsnotify makes of the kernel's bits, in the order in which one record's operations are reported. */
const OPERATIONS: readonly (readonly [mask: number, type: EventType])[] = [
  [IN.CREATE | IN.MOVED_TO, EventType.CREATE],
  [IN.MOVED_FROM | IN.MOVE_SELF, EventType.RENAME],
  [IN.ATTRIB, EventType.CHMOD],
  [IN.MODIFY, EventType.WRITE],
  [IN.DELETE | IN.DELETE_SELF, EventType.REMOVE],
];

/** The events that one inotify record stands for. A rename is RENAME of the old name and CREATE of the new one. */
export function eventTypes(mask: number): EventType[] {
  return OPERATIONS.filter(([bits]) => (mask & bits) !== 0).map(([, type]) => type);
}
