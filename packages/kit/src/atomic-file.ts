import { closeSync, linkSync, openSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { syncDescriptor, syncFile } from './sync-file.ts';

/**
 * Writes a file so that a crash at any moment leaves the old content or the new one: beside, synced, renamed,
 * and the folder synced. One that fails leaves the old content, or no file where there was none.
 *
 * Only the syncs are waited for. Everything else is a call of microseconds, which would take ten times as long by way of another
 * thread.
 */
export async function writeFileAtomic(path: string, content: string | Uint8Array, mode = 0o600): Promise<void> {
  // The way back when the folder cannot be synced any more: on a full disk a name can be given back, content cannot.
  const before = temporaryBeside(path);
  const hasBefore = linkIfThere(path, before);
  let isReplaced = false;
  try {
    await writeBeside(path, content, mode, true);
    isReplaced = true;
    await syncFile(dirname(path));
  } catch (error) {
    if (isReplaced) hasBefore ? renameSync(before, path) : rmSync(path, { force: true });
    throw error;
  } finally {
    if (hasBefore) removeIfPossible(before);
  }
}

function linkIfThere(from: string, to: string): boolean {
  try {
    linkSync(from, to);
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return false;
    throw error;
  }
}

/** What was written counts all the same. */
function removeIfPossible(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch {
    // Found by `isTemporaryFile` later.
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
    const file = openSync(temporary, 'wx', mode);
    try {
      writeFileSync(file, content);
      if (synced) await syncDescriptor(file);
    } finally {
      closeSync(file);
    }
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}
