import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir, readFile, readlink, realpath, stat } from 'node:fs/promises';
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
  const found = await readdir(source, { withFileTypes: true });
  const entries = await Promise.all(
    found.map(async (child): Promise<DiskEntry[]> => {
      const from = join(source, child.name);
      const to = path === '' ? child.name : `${path}/${child.name}`;
      if (child.isDirectory()) return folderEntries(from, to);
      if (child.isFile()) return [await fileEntry(from, to)];
      if (child.isSymbolicLink()) return [{ kind: 'symlink', path: to, target: await readlink(from) }];
      throw new NestboxError('internal', `${from} is neither a file, a folder nor a link.`);
    }),
  );
  return [...(path === '' ? [] : [{ kind: 'directory', path } as const]), ...entries.flat()];
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

/** Hash over places, kinds and content: 32 hex characters. Times and owners are not part of it. */
export async function hashDiskTree(tree: readonly DiskEntry[], salt: string): Promise<string> {
  const digests: string[] = [];
  for (let start = 0; start < tree.length; start += FILES_AT_ONCE)
    digests.push(...(await Promise.all(tree.slice(start, start + FILES_AT_ONCE).map(contentDigest))));
  const hash = createHash('sha256').update(salt);
  for (const [index, { kind, path }] of tree.entries()) hash.update(`\0${kind}\0${path}\0${digests[index]}`);
  return hash.digest('hex').slice(0, 32);
}

/** Bounded, since each is an open file. */
const FILES_AT_ONCE = 64;

/** Files up to this size are read whole, larger ones (Node itself) in pieces as large. */
const READ_BYTES = 2 ** 20;

async function contentDigest(entry: DiskEntry): Promise<string> {
  const hash = createHash('sha256');
  if (entry.kind === 'symlink') hash.update(entry.target);
  if (entry.kind === 'file') {
    hash.update(`${entry.executable}\0`);
    if (entry.sizeBytes <= READ_BYTES) hash.update(await readFile(entry.source));
    else for await (const piece of createReadStream(entry.source, { highWaterMark: READ_BYTES })) hash.update(piece);
  }
  return hash.digest('hex');
}
