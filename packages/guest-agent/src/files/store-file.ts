import { constants } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Readable } from 'node:stream';
import { errorCode } from '../filesystem/error-code.ts';
import { makeDirectory } from '../filesystem/make-directory.ts';
import { type Metadata, replaceMetadata } from '../filesystem/metadata.ts';
import { RestError } from '../rest.ts';
import type { SystemUser } from '../users.ts';
import { attempt } from './file-error.ts';
import { pour } from './pour.ts';

/** Without O_NONBLOCK, opening a pipe would hold one of libuv's few threads until somebody reads. */
const OPEN_FLAGS = constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY;
/** Less the umask. */
const FILE_MODE = 0o666;
/** What may wait while a write is under way; all of it goes out with the next one. */
const BUFFER_BYTES = 1024 * 1024;

export interface StoredFile {
  /** Absolute. */
  readonly path: string;
  readonly owner: SystemUser;
  /** The whole metadata of the file afterwards. */
  readonly metadata: Metadata;
}

/**
 * Writes `content` into the file in place: truncated first, created with its parents when missing, owned by `owner`.
 * When the content breaks off, what came of it stays. Returns once the file is closed.
 * Throws RestError 400 for what is no regular file, 507 without space, and the content's own error as it is.
 */
export async function storeFile({ path, owner, metadata }: StoredFile, content: Readable): Promise<void> {
  await using file = await attempt('error opening file', () => openForWriting(path, owner));
  await attempt('error preparing file', () => prepare(file, path, owner, metadata));
  await pour(content, file.createWriteStream({ highWaterMark: BUFFER_BYTES }));
}

async function prepare(file: FileHandle, path: string, owner: SystemUser, metadata: Metadata): Promise<void> {
  const found = await file.stat();
  if (!found.isFile()) throw notRegular(path);
  if (found.size > 0) await file.truncate();
  // Some file systems, like /proc, refuse even a change to what is there already.
  if (found.uid !== owner.uid || found.gid !== owner.gid) await file.chown(owner.uid, owner.gid);
  replaceMetadata(file.fd, metadata);
}

async function openForWriting(path: string, owner: SystemUser): Promise<FileHandle> {
  const found = await stat(path).catch((error: unknown) => {
    if (errorCode(error) !== 'ENOENT') throw error;
  });
  if (found?.isDirectory()) throw new RestError(400, `path is a directory: ${path}`);
  // Looked at before it is opened: opening a device can have effects of its own.
  if (found !== undefined && !found.isFile()) throw notRegular(path);
  try {
    // Without O_CREAT: fs.protected_regular makes it fail for files of others in sticky directories, even for root.
    if (found !== undefined) return await open(path, OPEN_FLAGS);
    await makeDirectory(dirname(path), owner);
    return await open(path, OPEN_FLAGS | constants.O_CREAT, FILE_MODE);
  } catch (error) {
    if (errorCode(error) === 'EISDIR') throw new RestError(400, `path is a directory: ${path}`, { cause: error });
    if (errorCode(error) === 'ENXIO') throw notRegular(path);
    throw error;
  }
}

function notRegular(path: string): RestError {
  return new RestError(400, `path is not a regular file: ${path}`);
}
