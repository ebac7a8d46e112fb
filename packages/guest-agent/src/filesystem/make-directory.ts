import { lchown, mkdir, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { SystemUser } from '../users.ts';
import { errorCode } from './error-code.ts';

const DIRECTORY_MODE = 0o755;

/**
 * `mkdir -p`: makes `path` and its missing parents, each 0755 and owned by `user`; those that exist stay as they are.
 * Throws the errors of stat(2) and mkdir(2); ENOTDIR when `path` or a parent exists and is no directory.
 */
export async function makeDirectory(path: string, user: Pick<SystemUser, 'uid' | 'gid'>): Promise<void> {
  if (await isDirectory(path)) return;
  const parent = dirname(path);
  if (parent !== path) await makeDirectory(parent, user);
  try {
    await mkdir(path, DIRECTORY_MODE);
  } catch (error) {
    // `a/..` exists as soon as `a` does, and somebody else may have been faster.
    if (errorCode(error) === 'EEXIST' && (await isDirectory(path))) return;
    throw error;
  }
  // The name may mean something else already; a link in its place must not lead the change of owner elsewhere.
  await lchown(path, user.uid, user.gid);
}

/** False when there is nothing; throws ENOTDIR when there is something else. */
async function isDirectory(path: string): Promise<boolean> {
  try {
    if ((await stat(path)).isDirectory()) return true;
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return false;
    throw error;
  }
  throw Object.assign(new Error(`ENOTDIR: not a directory, '${path}'`), { code: 'ENOTDIR' });
}
