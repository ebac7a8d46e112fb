import { constants } from 'node:fs';
import { type FileHandle, open, realpath, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import * as z from 'zod/mini';
import { errorCode } from '../filesystem/error-code.ts';
import { makeDirectory } from '../filesystem/make-directory.ts';
import { RestError, type RestHandler, readBody, sendJson } from '../rest.ts';
import { randomHex } from '../system/random-pool.ts';
import type { SystemUser } from '../users.ts';
import { attempt } from './file-error.ts';
import { filePath, fileUser } from './file-request.ts';

/** Room for the paths of thousands of parts. */
const MAX_BODY_BYTES = 4 * 1024 * 1024;
const COPY_BYTES = 1024 * 1024;
const FILE_MODE = 0o666;

const composeRequest = z.object({
  source_paths: z.array(z.string()).check(z.minLength(1, 'source_paths must not be empty')),
  destination: z.string().check(z.minLength(1, 'destination is required')),
  username: z.optional(z.string()),
});

/** POST /files/compose: makes one file of many and removes those (envd-interface.md, section 5.3). */
export const composeFiles: RestHandler = async (request, response, _url, context) => {
  const asked = parseRequest(await readBody(request, MAX_BODY_BYTES));
  const owner = fileUser(asked.username, context);
  const destination = filePath(asked.destination, owner, context);
  const sources = asked.source_paths.map((path) => filePath(path, owner, context));
  const leave = new AbortController();
  response.once('close', () => leave.abort());
  try {
    await attempt('error composing files', () => compose(sources, destination, owner, leave.signal));
  } catch (error) {
    // The client has left, and all is undone; nobody is there to be told.
    if (leave.signal.aborted) return;
    throw error;
  }
  sendJson(response, 200, { path: destination, name: basename(destination), type: 'file' });
};

/** Throws RestError 400. */
function parseRequest(body: Buffer): z.infer<typeof composeRequest> {
  let json: unknown;
  try {
    json = JSON.parse(body.toString('utf8'));
  } catch (cause) {
    throw new RestError(400, 'invalid request body: it is not JSON', { cause });
  }
  const parsed = composeRequest.safeParse(json);
  if (!parsed.success) throw new RestError(400, `invalid request body: ${z.prettifyError(parsed.error)}`);
  return parsed.data;
}

/**
 * Writes all `sources` one after the other into a new file beside `destination`, which then takes its place, and
 * removes them. On any failure everything is as it was. Throws RestError, the errors of the system, the signal's reason.
 */
async function compose(
  sources: readonly string[],
  destination: string,
  owner: SystemUser,
  signal: AbortSignal,
): Promise<void> {
  for (const source of sources) await requireSource(source, destination);
  await makeDirectory(dirname(destination), owner);
  const temporary = `${destination}.e2b-compose.${randomHex(16)}.tmp`;
  await using cleanup = new AsyncDisposableStack();
  const target = cleanup.use(await open(temporary, 'wx', FILE_MODE));
  cleanup.defer(() => rm(temporary, { force: true }));
  await target.chown(owner.uid, owner.gid);
  const buffer = Buffer.allocUnsafeSlow(COPY_BYTES);
  for (const source of sources) await append(source, target, buffer, signal);
  await rename(temporary, destination).catch((error: unknown) => {
    if (errorCode(error) !== 'EISDIR') throw error;
    throw new RestError(400, `destination is a directory: ${destination}`, { cause: error });
  });
  // The result is there already; a source that cannot be removed does not make it a failure.
  await Promise.allSettled(sources.map((source) => rm(source, { force: true })));
}

const MISSING: ReadonlySet<string | undefined> = new Set(['ENOENT', 'ENOTDIR']);

/** Throws RestError 404 for a missing source, 400 for one that is no regular file or is the destination itself. */
async function requireSource(source: string, destination: string): Promise<void> {
  if (source === destination || (await entryName(source)) === (await entryName(destination)))
    throw new RestError(400, `source path '${source}' cannot be the same as destination`);
  const found = await stat(source).catch((error: unknown) => {
    if (!MISSING.has(errorCode(error))) throw error;
    throw new RestError(404, `source file not found: ${source}`, { cause: error });
  });
  if (!found.isFile()) throw notRegular(source);
}

/** One spelling for all paths that name the same directory entry: removing a source must not remove the result. */
async function entryName(path: string): Promise<string> {
  try {
    return join(await realpath(dirname(path)), basename(path));
  } catch (error) {
    if (errorCode(error) === undefined) throw error;
    return path;
  }
}

async function append(source: string, target: FileHandle, buffer: Buffer, signal: AbortSignal): Promise<void> {
  await using content = await open(source, constants.O_RDONLY | constants.O_NONBLOCK);
  if (!(await content.stat()).isFile()) throw notRegular(source);
  for (;;) {
    signal.throwIfAborted();
    const { bytesRead } = await content.read(buffer, 0, buffer.length);
    if (bytesRead === 0) return;
    for (let written = 0; written < bytesRead; ) {
      const { bytesWritten } = await target.write(buffer, written, bytesRead - written);
      written += bytesWritten;
    }
  }
}

function notRegular(path: string): RestError {
  return new RestError(400, `source path is not a regular file: ${path}`);
}
