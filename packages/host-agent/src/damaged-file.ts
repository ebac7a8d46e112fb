import { NestboxError } from '@nestbox/contract';
import { errnoOf } from './storage/errno.ts';

/** For a file of a snapshot that the system does not give: it is missing, or the disk under it fails. */
export function unreadableFile(path: string, cause: unknown): NestboxError {
  const code = errnoOf(cause);
  const why = code === 'ENOENT' ? 'it is missing' : `it cannot be read${code === undefined ? '' : ` (${code})`}`;
  return damagedFile(path, why, cause);
}

/** `snapshot_damaged`, with the file and why. */
export function damagedFile(path: string, why: string, cause?: unknown): NestboxError {
  return new NestboxError('snapshot_damaged', `The snapshot's file ${path} is damaged: ${why}.`, { cause });
}
