import { link, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';

/**
 * Writes a file so that a crash at any moment leaves the old content or the new one: beside, synced, renamed,
 * and the folder synced. One that fails leaves the old content, or no file where there was none.
 */
export async function writeFileAtomic(path: string, content: string | Uint8Array, mode = 0o600): Promise<void> {
  // The way back when the folder cannot be synced any more: on a full disk a name can be given back, content cannot.
  const before = temporaryBeside(path);
  const hasBefore = await linkIfThere(path, before);
  let isReplaced = false;
  try {
    await writeBeside(path, content, mode, true);
    isReplaced = true;
    await syncFolder(dirname(path));
  } catch (error) {
    if (isReplaced) await (hasBefore ? rename(before, path) : rm(path, { force: true }));
    throw error;
  } finally {
    // What was written counts all the same.
    await rm(before, { force: true }).catch(() => {});
  }
}

async function linkIfThere(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to);
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return false;
    throw error;
  }
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** Whoever looks for what a crash has left knows these by `isTemporaryFile`. */
function temporaryBeside(path: string): string {
  return `${path}.${process.pid}.${Math.random().toString(36).slice(2)}.tmp`;
}

/** A file that was on its way into the place of another when its process ended. */
export function isTemporaryFile(name: string): boolean {
  return /\.\d+\.[a-z0-9]*\.tmp$/.test(name);
}

/**
 * The same without waiting for the disk: a crash of this process leaves the old content or the new one, a crash of the
 * machine may leave either or, with some file systems, an empty file.
 */
export async function replaceFile(path: string, content: string | Uint8Array, mode = 0o600): Promise<void> {
  await writeBeside(path, content, mode, false);
}

async function writeBeside(path: string, content: string | Uint8Array, mode: number, synced: boolean): Promise<void> {
  const temporary = temporaryBeside(path);
  try {
    const file = await open(temporary, 'wx', mode);
    try {
      await file.writeFile(content);
      if (synced) await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}
