import { closeSync, openSync, readSync, writeSync } from 'node:fs';

/** Where a guest counts how often it went on. */
export const DISK_COUNT_OFFSET = 4096;

/** In place of what a guest writes to its root disk. */
export function countOnDisk(path: string): void {
  const file = openSync(path, 'r+');
  try {
    const count = Buffer.alloc(4);
    readSync(file, count, 0, count.length, DISK_COUNT_OFFSET);
    count.writeUInt32LE(count.readUInt32LE() + 1);
    writeSync(file, count, 0, count.length, DISK_COUNT_OFFSET);
  } finally {
    closeSync(file);
  }
}
