import { readFile, realpath, statfs } from 'node:fs/promises';
import { type Mount, mountOf, parseMounts } from './mounts.ts';

export interface FileSystemUse extends Pick<Mount, 'mountPoint' | 'device' | 'type'> {
  readonly usedBytes: number;
  readonly totalBytes: number;
}

/** The file systems that these folders are on, each once, in the folders' order. A folder that is not there has none. */
export async function fileSystemsOf(folders: readonly string[]): Promise<FileSystemUse[]> {
  const mounts = parseMounts(await readFile('/proc/self/mountinfo', 'utf8').catch(() => ''));
  const found = new Map<Mount, FileSystemUse>();
  for (const folder of folders) {
    const path = await realpath(folder).catch(() => undefined);
    const mount = path === undefined ? undefined : mountOf(mounts, path);
    if (path === undefined || mount === undefined || found.has(mount)) continue;
    const { mountPoint, device, type } = mount;
    const { bsize, blocks, bfree } = await statfs(path);
    found.set(mount, { mountPoint, device, type, usedBytes: (blocks - bfree) * bsize, totalBytes: blocks * bsize });
  }
  return [...found.values()];
}
