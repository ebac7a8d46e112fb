import { stat } from 'node:fs/promises';

/** Whether something is there, links followed. An answer that cannot be had (EACCES, …) is an error, not a no. */
export async function pathExists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR'))
      return false;
    throw error;
  }
}
