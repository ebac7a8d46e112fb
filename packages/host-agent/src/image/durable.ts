import { open } from 'node:fs/promises';

/** Waits until a file's content, or a folder's names, have reached the disk (fsync(2)). */
export async function syncFile(path: string): Promise<void> {
  const file = await open(path, 'r');
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}
