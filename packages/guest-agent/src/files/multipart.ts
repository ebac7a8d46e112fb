import type { IncomingHttpHeaders } from 'node:http';
import { Readable } from 'node:stream';
import { finished } from 'node:stream/promises';
import busboy from 'busboy';
import { RestError } from '../rest.ts';

/** The name of the parts that are files; others are passed over. */
const FILE_FIELD = 'file';
/** A file sent as plain form value is held in memory, so it has a limit; one sent as a file has none. */
const MAX_VALUE_BYTES = 1024 * 1024;
const CHUNK_BYTES = 256 * 1024;

/**
 * Reads a multipart body and hands each part named `file` to `onFile`, one after the other, in order.
 * `name` is the whole `filename` parameter, directories included; undefined when the part has none.
 * Stops at the first error of `onFile`, which it throws; `body` is left as it is then. Throws RestError 400 for a
 * malformed body, and the body's own error when that breaks off.
 */
export async function readMultipart(
  headers: IncomingHttpHeaders,
  body: Readable,
  onFile: (name: string | undefined, content: Readable) => Promise<void>,
): Promise<void> {
  const parser = createParser(headers['content-type'] ?? '');
  let failure: { readonly error: unknown } | undefined;
  let parts = Promise.resolve();

  // The first cause counts: a broken body breaks the parser, which breaks the part that is being read, and vice versa.
  function fail(error: unknown): void {
    failure ??= { error };
    parser.destroy();
  }

  function take(name: string | undefined, content: Readable): void {
    parts = parts.then(() => (failure === undefined ? onFile(name, content) : undefined)).catch(fail);
  }

  parser.on('file', (field, content, { filename }) => {
    // Each part fails when the whole does; whoever reads it learns of that by itself.
    content.on('error', () => undefined);
    if (field === FILE_FIELD) take(filename, content);
    else content.resume();
  });
  parser.on('field', (field, value, { valueTruncated }) => {
    if (field !== FILE_FIELD) return;
    if (valueTruncated) fail(new RestError(400, 'a file sent without file name is larger than 1 MiB'));
    else take(undefined, Readable.from([Buffer.from(value, 'latin1')], { objectMode: false }));
  });
  parser.on('error', (error) => fail(malformed(error)));
  finished(body, { writable: false }).catch(fail);
  await new Promise<void>((resolve) => {
    parser.once('close', resolve);
    body.pipe(parser);
  });
  body.unpipe(parser);
  await parts;
  if (failure !== undefined) throw failure.error;
}

function createParser(contentType: string): busboy.Busboy {
  try {
    return busboy({
      // The form of the parts is the same in multipart/mixed, which the parser does not know by name.
      headers: { 'content-type': contentType.replace(/^\s*multipart\/[^;]*/i, 'multipart/form-data') },
      preservePath: true,
      // As browsers and fetch send names.
      defParamCharset: 'utf8',
      // Keeps the bytes of values as they are.
      defCharset: 'latin1',
      highWaterMark: CHUNK_BYTES,
      fileHwm: CHUNK_BYTES,
      limits: { fieldSize: MAX_VALUE_BYTES },
    });
  } catch (error) {
    throw malformed(error);
  }
}

function malformed(cause: unknown): RestError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new RestError(400, `error reading form: ${reason}`, { cause });
}
