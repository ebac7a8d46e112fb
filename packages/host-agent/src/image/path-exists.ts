import { stat } from 'node:fs/promises';
import { errnoOf } from '../storage/errno.ts';

/** Whether something is there, links followed. An answer that cannot be had (EACCES, …) is an error, not a no. */
export async function pathExists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(errnoOf(error) ?? '')) return false;
    throw error;
  }
}
