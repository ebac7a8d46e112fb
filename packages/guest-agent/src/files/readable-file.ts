import { constants } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import { errorCode } from '../filesystem/error-code.ts';
import { RestError } from '../rest.ts';
import { attempt } from './file-error.ts';

/** Files up to this size are read whole before the answer begins. */
const SMALL_BYTES = 256 * 1024;

/**
 * An open file and what is known of its content.
 * `whole`: all of it was read, so its size is true even where the kernel does not know it (/proc, /sys).
 * `large`: of the size that stat(2) told.
 * `endless`: stat(2) told no size, but there is much; its end is where reading ends.
 */
export type ReadableFile = {
  readonly modifiedMs: number;
  /** The beginning of the content. */
  readonly head: Buffer;
} & (
  | { readonly kind: 'whole'; readonly size: number }
  | { readonly kind: 'large'; readonly size: number; readonly handle: FileHandle }
  | { readonly kind: 'endless'; readonly handle: FileHandle }
);

/** Throws RestError 404 for what is missing, 400 for a directory and for what is no regular file. */
export async function openForReading(path: string): Promise<FileHandle> {
  const found = await attempt(`error checking if path exists '${path}'`, () => statOrMissing(path));
  if (found.isDirectory()) throw new RestError(400, `path '${path}' is a directory`);
  if (!found.isFile()) throw notRegular(path);
  // O_NONBLOCK: what a pipe in its place would do to the thread that opens it.
  const flags = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY;
  return attempt(`error opening file '${path}'`, () => open(path, flags));
}

/** Reads the beginning, or all of a small file. Throws RestError. */
export async function inspect(handle: FileHandle, path: string): Promise<ReadableFile> {
  return attempt(`error reading file '${path}'`, async () => {
    const found = await handle.stat();
    if (!found.isFile()) throw notRegular(path);
    const head = await readHead(handle, found.size === 0 ? SMALL_BYTES : Math.min(found.size, SMALL_BYTES));
    const known = { modifiedMs: found.mtimeMs, head };
    if (head.length < SMALL_BYTES || found.size === SMALL_BYTES) return { ...known, kind: 'whole', size: head.length };
    if (found.size > 0) return { ...known, kind: 'large', size: found.size, handle };
    return { ...known, kind: 'endless', handle };
  });
}

async function statOrMissing(path: string) {
  try {
    return await stat(path);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') throw new RestError(404, `path '${path}' does not exist`, { cause: error });
    throw error;
  }
}

async function readHead(handle: FileHandle, length: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(length);
  let filled = 0;
  while (filled < length) {
    const { bytesRead } = await handle.read(buffer, filled, length - filled, filled);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return buffer.subarray(0, filled);
}

function notRegular(path: string): RestError {
  return new RestError(400, `path '${path}' is not a regular file`);
}
