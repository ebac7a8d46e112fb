/** Bits of inotify(7), from <sys/inotify.h>. */
export const IN = {
  MODIFY: 0x2,
  ATTRIB: 0x4,
  MOVED_FROM: 0x40,
  MOVED_TO: 0x80,
  CREATE: 0x100,
  DELETE: 0x200,
  DELETE_SELF: 0x400,
  MOVE_SELF: 0x800,
  UNMOUNT: 0x2000,
  Q_OVERFLOW: 0x4000,
  IGNORED: 0x8000,
  ONLYDIR: 0x0100_0000,
  DONT_FOLLOW: 0x0200_0000,
  ISDIR: 0x4000_0000,
} as const;

/** One `struct inotify_event`. */
export interface InotifyRecord {
  /** The watch descriptor; -1 for a queue overflow. */
  readonly wd: number;
  /** Bits of `IN`. */
  readonly mask: number;
  /** The same number in both halves of a rename, 0 elsewhere. */
  readonly cookie: number;
  /** Name inside the watched directory; empty when the event is about the directory itself. */
  readonly name: string;
}

const HEADER_BYTES = 16;

/**
 * Parses what one read(2) of an inotify descriptor returned; the kernel hands out whole records only.
 * A name that is not UTF-8 comes with U+FFFD in it. Throws RangeError for a record that is cut off.
 */
export function parseInotifyRecords(data: Buffer): InotifyRecord[] {
  const records: InotifyRecord[] = [];
  let at = 0;
  while (at < data.length) {
    if (data.length - at < HEADER_BYTES) throw new RangeError(`inotify record cut off at byte ${at}`);
    const nameAt = at + HEADER_BYTES;
    // The kernel pads the name with NUL bytes to a multiple of the header's size.
    const end = nameAt + data.readUInt32LE(at + 12);
    if (end > data.length) throw new RangeError(`inotify record cut off at byte ${at}`);
    const terminator = data.indexOf(0, nameAt);
    records.push({
      wd: data.readInt32LE(at),
      mask: data.readUInt32LE(at + 4),
      cookie: data.readUInt32LE(at + 8),
      name: data.toString('utf8', nameAt, terminator < 0 ? end : Math.min(terminator, end)),
    });
    at = end;
  }
  return records;
}
