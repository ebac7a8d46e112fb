import { readdir } from 'node:fs/promises';
import { errnoOf } from './errno.ts';

/** Names of the folders in a folder; none when it does not exist yet. */
export async function subfolders(path: string): Promise<string[]> {
  try {
    const entries = await readdir(path, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  }
}
