import type { IncomingMessage } from 'node:http';
import { basename } from 'node:path';
import type { Readable } from 'node:stream';
import type { Metadata } from '../filesystem/metadata.ts';
import { RestError, type RestHandler } from '../rest.ts';
import { toRestError } from './file-error.ts';
import { authorize, filePath, fileUser, parseFileQuery } from './file-request.ts';
import { metadataOfHeaders } from './metadata-headers.ts';
import { readMultipart } from './multipart.ts';
import { decompressionError, openBody } from './request-body.ts';
import { storeFile } from './store-file.ts';

/** One file in the answer to an upload. */
interface WrittenFile {
  readonly name: string;
  readonly path: string;
  readonly type: 'file';
  readonly metadata?: Metadata;
}

/** POST /files: one file as raw body, or many as multipart form (envd-interface.md, section 5.2). */
export const uploadFiles: RestHandler = async (request, response, url, context) => {
  const query = parseFileQuery(url.searchParams);
  authorize(request, query, 'write', context);
  using body = await openBody(request);
  const owner = fileUser(query.username, context);
  const metadata = metadataOfHeaders(request.headersDistinct);
  const written: WrittenFile[] = [];

  async function store(path: string, content: Readable): Promise<void> {
    const resolved = filePath(path, owner, context);
    if (written.some((file) => file.path === resolved)) throw duplicate(resolved);
    await storeFile({ path: resolved, owner, metadata }, content);
    written.push({
      name: basename(resolved) || '/',
      path: resolved,
      type: 'file',
      ...(Object.keys(metadata).length > 0 && { metadata }),
    });
  }

  try {
    if (mediaType(request) === 'application/octet-stream') {
      if (query.path === undefined) throw new RestError(400, 'path query parameter is required for raw body upload');
      await store(query.path, body.content);
    } else if (mediaType(request).startsWith('multipart/')) {
      await readMultipart(request.headers, body.content, async (name, content) => {
        const path = query.path ?? name;
        if (path === undefined) throw new RestError(400, 'a part named file has neither a path nor a file name');
        await store(path, content);
      });
    } else {
      const sent = request.headers['content-type'] ?? '';
      throw new RestError(
        400,
        `unsupported content type: ${sent}, expected multipart/form-data or application/octet-stream`,
      );
    }
  } catch (error) {
    // The client has left in the middle; what it sent stays, and nobody is there to be told.
    if (request.destroyed && !request.complete) return;
    throw decompressionError(error) ?? toRestError(error, 'error writing file');
  }
  // As envd answers, whose type Go sniffs.
  response.setHeader('Content-Type', 'text/plain; charset=utf-8');
  response.end(JSON.stringify(written));
};

function mediaType({ headers }: IncomingMessage): string {
  return (headers['content-type']?.split(';', 1)[0] ?? '').trim().toLowerCase();
}

function duplicate(path: string): RestError {
  return new RestError(
    400,
    `you cannot upload multiple files to the same path '${path}' in one upload request, only the first specified file was uploaded`,
  );
}
