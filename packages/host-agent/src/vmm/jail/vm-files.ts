import { dirname } from 'node:path';
import { giveFile, keepFile, letThrough } from './hand-over.ts';
import type { JailMount } from './jail.ts';

/**
 * Gives the VMM's user each single file that it may write to; what it only reads is shared with other VMs, so it belongs to root and is
 * read-only. The folders of the former are opened to be passed through.
 */
export function handOverFiles(mounts: readonly JailMount[], userId: number): void {
  const written = mounts.filter(({ writable }) => writable).map(({ hostPath }) => hostPath);
  const read = mounts.filter(({ writable }) => !writable).map(({ hostPath }) => hostPath);
  for (const path of written) giveFile(path, userId);
  for (const path of read) keepFile(path);
  for (const folder of new Set(written.map((path) => dirname(path)))) letThrough(folder);
}
