import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { NestboxError } from '@nestbox/contract';
import { writeFileAtomic } from '@nestbox/kit';
import type { HostLayout } from './layout.ts';

/**
 * The id of the host whose sandboxes are in this state folder: 16 hexadecimal digits, made by the first start and kept in
 * the folder, so that it goes where they go. Asked for by the holder of the folder's lock. Throws `conflict` for a file
 * that holds something else: another id would make its sandboxes somebody else's.
 */
export async function readOrMakeHostId({ hostId: path }: Pick<HostLayout, 'hostId'>): Promise<string> {
  const known = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (known !== undefined) {
    const id = known.trim();
    if (/^[0-9a-f]{16}$/.test(id)) return id;
    throw new NestboxError('conflict', `The file ${path} does not hold a host id: restore it from a copy.`);
  }
  const made = randomBytes(8).toString('hex');
  // No secret: rows, logs and metrics name it.
  await writeFileAtomic(path, `${made}\n`, 0o644);
  return made;
}
