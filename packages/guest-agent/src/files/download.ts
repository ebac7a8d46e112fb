import type { IncomingMessage, ServerResponse } from 'node:http';
import { basename } from 'node:path';
import { RestError, type RestHandler } from '../rest.ts';
import { randomHex } from '../system/random-pool.ts';
import { acceptsIdentity, negotiateEncoding } from './accept-encoding.ts';
import { type ByteRange, contentRange, parseRange, rangeLength } from './byte-range.ts';
import { evaluatePreconditions, isPartialOrConditional, rangeStillValid } from './conditional-request.ts';
import { inlineDisposition } from './content-disposition.ts';
import { sniffType, typeByExtension } from './content-type.ts';
import { authorize, filePath, fileUser, parseFileQuery } from './file-request.ts';
import { inspect, openForReading, type ReadableFile } from './readable-file.ts';
import { sendBytes, sendGzip, sendUntilEnd } from './send-file.ts';

/** GET and HEAD /files (envd-interface.md, section 5.1). */
export const downloadFile: RestHandler = async (request, response, url, context) => {
  const query = parseFileQuery(url.searchParams);
  authorize(request, query, 'read', context);
  const user = fileUser(query.username, context);
  const path = filePath(query.path ?? '', user, context);
  await using handle = await openForReading(path);
  const encoding = chooseEncoding(request);
  const file = await inspect(handle, path);
  const name = basename(path);
  response.setHeader('Vary', 'Accept-Encoding');
  response.setHeader('Content-Disposition', inlineDisposition(name));

  // An empty body needs no coding, and clients look for its Content-Length.
  const isEmpty = file.kind === 'whole' && file.size === 0;
  if (encoding === 'gzip' && !isEmpty) {
    response.setHeader('Content-Encoding', 'gzip');
    response.writeHead(200, { 'Content-Type': (await typeByExtension(name)) ?? 'application/octet-stream' });
    if (request.method === 'HEAD') response.end();
    else await sendGzip(file, response);
    return;
  }
  const type = (await typeByExtension(name)) ?? sniffType(file.head);
  if (file.kind === 'endless') {
    response.writeHead(200, { 'Content-Type': type });
    if (request.method === 'HEAD') response.end();
    else await sendUntilEnd(file.handle, response);
    return;
  }
  await sendPlain(file, type, request, response);
};

/** Throws RestError 406. Ranges and conditions are about the plain file, so they leave no choice. */
function chooseEncoding({ headers }: IncomingMessage) {
  const header = headers['accept-encoding'];
  const encoding = isPartialOrConditional(headers) ? acceptsIdentity(header) && 'identity' : negotiateEncoding(header);
  if (!encoding) throw new RestError(406, 'no acceptable encoding found, supported: [gzip]');
  return encoding;
}

type SizedFile = Exclude<ReadableFile, { kind: 'endless' }>;

/** The uncoded file with all that HTTP has for parts and conditions (RFC 9110, sections 13 and 14). */
async function sendPlain(file: SizedFile, type: string, request: IncomingMessage, response: ServerResponse) {
  const { headers } = request;
  response.setHeader('Last-Modified', new Date(file.modifiedMs).toUTCString());
  const precondition = evaluatePreconditions(headers, file.modifiedMs);
  if (precondition !== 'fulfilled') {
    response.writeHead(precondition === 'failed' ? 412 : 304).end();
    return;
  }
  response.setHeader('Accept-Ranges', 'bytes');
  const wanted = Boolean(headers.range) && rangeStillValid(headers, file.modifiedMs);
  const ranges = wanted ? parseRange(headers.range ?? '', file.size) : 'whole';
  if (ranges === 'malformed') throw new RestError(416, 'invalid range');
  if (ranges === 'unsatisfiable') {
    response.setHeader('Content-Range', `bytes */${file.size}`);
    throw new RestError(416, 'invalid range: failed to overlap');
  }
  const withBody = request.method !== 'HEAD';
  const [first, ...others] = ranges === 'whole' ? [{ start: 0, end: file.size - 1 }] : ranges;
  if (first === undefined) throw new RestError(416, 'invalid range');
  if (others.length > 0) {
    await sendParts(file, type, [first, ...others], withBody, response);
    return;
  }
  if (ranges !== 'whole') response.setHeader('Content-Range', contentRange(first, file.size));
  response.writeHead(ranges === 'whole' ? 200 : 206, {
    'Content-Type': type,
    'Content-Length': rangeLength(first),
  });
  if (withBody) await sendBytes(file, first.start, first.end, response);
  response.end();
}

/** Several ranges: multipart/byteranges (RFC 9110, section 14.6). */
async function sendParts(
  file: SizedFile,
  type: string,
  ranges: readonly ByteRange[],
  withBody: boolean,
  response: ServerResponse,
) {
  const boundary = randomHex(24);
  const parts = ranges.map((range, index) => ({
    range,
    header: `${index === 0 ? '' : '\r\n'}--${boundary}\r\nContent-Type: ${type}\r\nContent-Range: ${contentRange(range, file.size)}\r\n\r\n`,
  }));
  const end = `\r\n--${boundary}--\r\n`;
  const length = parts.reduce((sum, part) => sum + part.header.length + rangeLength(part.range), end.length);
  response.writeHead(206, {
    'Content-Type': `multipart/byteranges; boundary=${boundary}`,
    'Content-Length': length,
  });
  if (!withBody) {
    response.end();
    return;
  }
  for (const { range, header } of parts) {
    response.write(header);
    await sendBytes(file, range.start, range.end, response);
  }
  response.end(end);
}
