import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import type { Readable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { RestError } from '../rest.ts';

const GUNZIP_CHUNK_BYTES = 256 * 1024;

/** The body as the client had it before any Content-Encoding. Disposing leaves the request fit for being answered. */
export interface RequestBody extends Disposable {
  readonly content: Readable;
}

/** Throws RestError 400 for a coding that is not known, and for a body that does not even begin as it says. */
export async function openBody(request: IncomingMessage): Promise<RequestBody> {
  const header = request.headers['content-encoding'] ?? '';
  const coding = (header.split(';', 1)[0] ?? '').trim().toLowerCase();
  if (coding === '' || coding === 'identity') return { content: request, [Symbol.dispose]() {} };
  if (coding !== 'gzip')
    throw new RestError(
      400,
      `error decompressing request body: unsupported Content-Encoding: ${header}, supported: [gzip]`,
    );
  return openGzipBody(request);
}

async function openGzipBody(request: IncomingMessage): Promise<RequestBody> {
  const content = createGunzip({ chunkSize: GUNZIP_CHUNK_BYTES });
  finished(request, { writable: false }).catch((error: unknown) => {
    content.destroy(error instanceof Error ? error : new Error(String(error)));
  });
  request.pipe(content);
  const dispose = () => {
    request.unpipe(content);
    content.destroy();
  };
  try {
    // Readable comes with the first bytes, or with the end.
    await once(content, 'readable');
  } catch (error) {
    dispose();
    throw decompressionError(error) ?? error;
  }
  return { content, [Symbol.dispose]: dispose };
}

/** The answer to a body that is not what its Content-Encoding says; undefined when `error` is something else. */
export function decompressionError(error: unknown): RestError | undefined {
  if (!(error instanceof Error && 'code' in error && String(error.code).startsWith('Z_'))) return undefined;
  return new RestError(400, `error decompressing request body: ${error.message}`, { cause: error });
}
