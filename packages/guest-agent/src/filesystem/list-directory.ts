import { readdir, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import type { EntryInfo } from '@nestbox/contract/filesystem';
import { entryInfo } from './entry-info.ts';
import { errorCode } from './error-code.ts';

/** Entries of one directory that are asked for at once: enough to keep libuv's four threads busy. */
const AT_ONCE = 32;

/**
 * Lists what is below `path`, depth first, names in order, at most `depth` levels; links are shown, not followed.
 * `path` itself may be a link; entries are shown under it as it was asked for. What vanishes meanwhile is left out.
 * Throws the errors of realpath(3), readdir(3) and lstat(2), and the signal's reason.
 */
export async function listDirectory(path: string, depth: number, signal: AbortSignal): Promise<EntryInfo[]> {
  const entries: EntryInfo[] = [];
  await walk(await realpath(path), path, depth, entries, signal);
  return entries;
}

async function walk(
  directory: string,
  shownDirectory: string,
  depth: number,
  entries: EntryInfo[],
  signal: AbortSignal,
): Promise<void> {
  const children = (await readdir(directory, { withFileTypes: true })).sort((a, b) => (a.name < b.name ? -1 : 1));
  for (let at = 0; at < children.length; at += AT_ONCE) {
    signal.throwIfAborted();
    const some = children.slice(at, at + AT_ONCE);
    const infos = await Promise.all(
      some.map(({ name }) => entryUnlessVanished(join(directory, name), join(shownDirectory, name))),
    );
    for (const [index, child] of some.entries()) {
      const info = infos[index];
      if (info === undefined) continue;
      entries.push(info);
      if (depth > 1 && child.isDirectory()) await walkUnlessVanished(child.name);
    }
  }

  async function walkUnlessVanished(name: string): Promise<void> {
    try {
      await walk(join(directory, name), join(shownDirectory, name), depth - 1, entries, signal);
    } catch (error) {
      if (!VANISHED.has(errorCode(error))) throw error;
    }
  }
}

/** ENOTDIR: a file has taken the directory's place. */
const VANISHED: ReadonlySet<string | undefined> = new Set(['ENOENT', 'ENOTDIR']);

async function entryUnlessVanished(path: string, shownPath: string): Promise<EntryInfo | undefined> {
  try {
    return await entryInfo(path, shownPath);
  } catch (error) {
    if (VANISHED.has(errorCode(error))) return undefined;
    throw error;
  }
}
