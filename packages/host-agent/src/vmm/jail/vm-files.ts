import { dirname } from 'node:path';
import { giveFile, keepFile, letThrough } from './hand-over.ts';
import type { JailMount } from './jail.ts';

/**
 * Gives the VMM's user each single file that it may write to; what it only reads is shared with other VMs, so it belongs to root and is
 * read-only. The folders of the former are opened to be passed through.
 */
export async function handOverFiles(mounts: readonly JailMount[], userId: number): Promise<void> {
  const written = mounts.filter(({ writable }) => writable).map(({ hostPath }) => hostPath);
  const read = mounts.filter(({ writable }) => !writable).map(({ hostPath }) => hostPath);
  await Promise.all([
    ...written.map((path) => giveFile(path, userId)),
    ...read.map(keepFile),
    ...[...new Set(written.map((path) => dirname(path)))].map(letThrough),
  ]);
}
