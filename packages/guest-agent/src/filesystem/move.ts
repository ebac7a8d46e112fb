import { lstat, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { SystemUser } from '../users.ts';
import { makeDirectory } from './make-directory.ts';

/**
 * rename(2), after the missing parents of `destination` were made for `user`; an existing file there is replaced.
 * Throws the errors of both, ENOENT when there is no `source`, in which case no parent is made.
 */
export async function move(source: string, destination: string, user: SystemUser): Promise<void> {
  await lstat(source);
  await makeDirectory(dirname(destination), user);
  await rename(source, destination);
}
