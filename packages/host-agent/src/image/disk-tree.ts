import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { lstat, readdir, readlink, realpath, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { NestboxError } from '@nestbox/contract';

/** One thing of a disk in the making; `path` is its place there, without a slash at the start. */
export type DiskEntry =
  | { readonly kind: 'directory'; readonly path: string }
  | { readonly kind: 'symlink'; readonly path: string; readonly target: string }
  | {
      readonly kind: 'file';
      readonly path: string;
      /** Where its content is on this machine. */
      readonly source: string;
      readonly executable: boolean;
      readonly sizeBytes: number;
    };

/** One file, links followed, to be at `path` on the disk. */
export async function fileEntry(source: string, path: string): Promise<DiskEntry> {
  const target = await realpath(source);
  const stats = await stat(target);
  return { kind: 'file', path, source: target, executable: (stats.mode & 0o111) !== 0, sizeBytes: stats.size };
}

/** All that is in a folder, to be below `path` on the disk (`''`: at its top). */
export async function folderEntries(source: string, path: string): Promise<DiskEntry[]> {
  const entries: DiskEntry[] = path === '' ? [] : [{ kind: 'directory', path }];
  for (const name of await readdir(source)) {
    const from = join(source, name);
    const to = path === '' ? name : `${path}/${name}`;
    const stats = await lstat(from);
    if (stats.isDirectory()) entries.push(...(await folderEntries(from, to)));
    else if (stats.isFile()) entries.push(await fileEntry(from, to));
    else if (stats.isSymbolicLink()) entries.push({ kind: 'symlink', path: to, target: await readlink(from) });
    else throw new NestboxError('internal', `${from} is neither a file, a folder nor a link.`);
  }
  return entries;
}

/**
 * The whole disk: folders that entries are in but nobody named are added, and everything is put into one order, the
 * same on every machine, with folders before what they hold.
 */
export function diskTree(entries: readonly DiskEntry[]): DiskEntry[] {
  const byPath = new Map(entries.map((entry) => [entry.path, entry]));
  for (const { path } of entries) {
    for (let parent = dirname(path); parent !== '.'; parent = dirname(parent)) {
      if (!byPath.has(parent)) byPath.set(parent, { kind: 'directory', path: parent });
    }
  }
  return [...byPath.values()].sort((a, b) => (a.path < b.path ? -1 : 1));
}

/** Large, since most of what is hashed is one file of more than 100 MiB. */
const READ_BYTES = 2 ** 20;

/** Hash over places, kinds and content: 32 hex characters. Times and owners are not part of it. */
export async function hashDiskTree(tree: readonly DiskEntry[], salt: string): Promise<string> {
  const hash = createHash('sha256').update(salt);
  for (const entry of tree) {
    hash.update(`\0${entry.kind}\0${entry.path}\0`);
    if (entry.kind === 'symlink') hash.update(entry.target);
    if (entry.kind === 'file') {
      hash.update(`${entry.executable}\0${entry.sizeBytes}\0`);
      for await (const chunk of createReadStream(entry.source, { highWaterMark: READ_BYTES })) hash.update(chunk);
    }
  }
  return hash.digest('hex').slice(0, 32);
}
