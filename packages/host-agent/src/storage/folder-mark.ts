import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { isTemporaryFile } from '@nestbox/kit';
import { DISK_SUMS_NAME } from './disk-sums.ts';

/**
 * Tells whether any file of a folder whose files never change is another one, or was written to, since it was looked at before. Not by the time of
 * change of the inode: every link that somebody makes or removes is one. In microseconds, since the kernel has all of it at hand.
 */
export function folderMark(folder: string): string {
  const names = namesIn(folder).filter((name) => name !== DISK_SUMS_NAME && !isTemporaryFile(name));
  return names.map((name) => `${name} ${fileMark(join(folder, name))}`).join('\n');
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch {
    return []; // Whoever opens its files says what is wrong.
  }
}

function fileMark(path: string): string {
  const stats = statSync(path, { bigint: true, throwIfNoEntry: false });
  return stats === undefined ? 'missing' : `${stats.dev} ${stats.ino} ${stats.size} ${stats.mtimeNs}`;
}
