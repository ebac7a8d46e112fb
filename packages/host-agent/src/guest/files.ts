import { randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { Code } from '@connectrpc/connect';
import { type EntryInfo, FileType } from '@nestbox/contract/filesystem';
import { DEFAULT_GUEST_USER, type GuestConnection } from './guest-connection.ts';
import { toGuestError } from './guest-error.ts';
import { openRest, type RestCall, rejection } from './rest-call.ts';

export type GuestFileContent = string | Uint8Array | AsyncIterable<Uint8Array>;

export interface GuestEntry {
  readonly name: string;
  readonly path: string;
  readonly type: 'file' | 'directory' | 'symlink' | 'other';
  readonly sizeBytes: number;
  /** Permission bits. */
  readonly mode: number;
  readonly owner: string;
  readonly group: string;
}

const ENTRY_TYPES: Record<FileType, GuestEntry['type']> = {
  [FileType.UNSPECIFIED]: 'other',
  [FileType.FILE]: 'file',
  [FileType.DIRECTORY]: 'directory',
  [FileType.SYMLINK]: 'symlink',
};

/** Writes a whole file, streaming; parents are made. Throws GuestError with status and body unless the answer is 200. */
export async function writeFile(
  guest: GuestConnection,
  path: string,
  content: GuestFileContent,
  options: { readonly user?: string } = {},
  signal?: AbortSignal,
): Promise<void> {
  const boundary = `nestbox-${randomBytes(16).toString('hex')}`;
  const call: RestCall = {
    method: 'POST',
    path: filesPath(path, options.user),
    headers: { 'content-type': `multipart/form-data; boundary=${boundary}` },
    body: Readable.from(multipart(boundary, content), { objectMode: false }),
  };
  const response = await openRest(guest, guest.streaming, call, signal);
  if (response.statusCode !== 200) throw await rejection(call, response);
  response.resume();
}

/** Opens a file for reading; the caller reads it to its end or destroys it. Throws GuestError. */
export async function readFile(
  guest: GuestConnection,
  path: string,
  options: { readonly user?: string } = {},
  signal?: AbortSignal,
): Promise<Readable> {
  const call: RestCall = { method: 'GET', path: filesPath(path, options.user) };
  const response = await openRest(guest, guest.streaming, call, signal);
  if (response.statusCode !== 200) throw await rejection(call, response);
  return response;
}

/** Entries of a folder, down to `depth` (default 1: its own). */
export async function listDir(
  guest: GuestConnection,
  path: string,
  options: { readonly user?: string; readonly depth?: number } = {},
  signal?: AbortSignal,
): Promise<GuestEntry[]> {
  try {
    const { entries } = await guest.filesystem.listDir(
      { path, depth: options.depth ?? 1 },
      { headers: guest.headers(options.user), ...(signal === undefined ? {} : { signal }) },
    );
    return entries.map(toEntry);
  } catch (error) {
    throw toGuestError(error, `Listing ${path}`, signal);
  }
}

/** Makes a folder and its parents. False when it was there already. */
export async function makeDir(
  guest: GuestConnection,
  path: string,
  options: { readonly user?: string } = {},
  signal?: AbortSignal,
): Promise<boolean> {
  try {
    await guest.filesystem.makeDir(
      { path },
      { headers: guest.headers(options.user), ...(signal === undefined ? {} : { signal }) },
    );
    return true;
  } catch (error) {
    const known = toGuestError(error, `Making the folder ${path}`, signal);
    if (known.rpcCode === Code.AlreadyExists) return false;
    throw known;
  }
}

/** Removes a file or a whole folder; one that is missing is fine. */
export async function remove(
  guest: GuestConnection,
  path: string,
  options: { readonly user?: string } = {},
  signal?: AbortSignal,
): Promise<void> {
  try {
    await guest.filesystem.remove(
      { path },
      { headers: guest.headers(options.user), ...(signal === undefined ? {} : { signal }) },
    );
  } catch (error) {
    throw toGuestError(error, `Removing ${path}`, signal);
  }
}

function filesPath(path: string, user = DEFAULT_GUEST_USER): string {
  return `/files?${new URLSearchParams({ path, username: user })}`;
}

async function* multipart(boundary: string, content: GuestFileContent): AsyncGenerator<Uint8Array> {
  yield Buffer.from(
    `--${boundary}\r\nContent-Disposition: form-data; name="file"; filename="file"\r\n` +
      'Content-Type: application/octet-stream\r\n\r\n',
  );
  if (typeof content === 'string') yield Buffer.from(content);
  else if (content instanceof Uint8Array) yield content;
  else yield* content;
  yield Buffer.from(`\r\n--${boundary}--\r\n`);
}

function toEntry(entry: EntryInfo): GuestEntry {
  return {
    name: entry.name,
    path: entry.path,
    type: ENTRY_TYPES[entry.type] ?? 'other',
    sizeBytes: Number(entry.size),
    mode: entry.mode,
    owner: entry.owner,
    group: entry.group,
  };
}
