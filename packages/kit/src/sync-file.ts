import { closeSync, fsync, openSync } from 'node:fs';

/** Waits until a file's content, or a folder's names, have reached the disk (fsync(2)). */
export async function syncFile(path: string): Promise<void> {
  const file = openSync(path, 'r');
  try {
    await syncDescriptor(file);
  } finally {
    closeSync(file);
  }
}

/** The same for a file that is open. */
export function syncDescriptor(file: number): Promise<void> {
  return new Promise((resolve, reject) => {
    fsync(file, (error) => (error === null ? resolve() : reject(error)));
  });
}
