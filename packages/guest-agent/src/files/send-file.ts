import type { FileHandle } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import { createGzip, gzip, constants as zlib } from 'node:zlib';
import type { ReadableFile } from './readable-file.ts';

const READ_BYTES = 512 * 1024;
const GZIP_CHUNK_BYTES = 128 * 1024;
/** How much of a file tells whether compressing it is worth the while. */
const SAMPLE_BYTES = 64 * 1024;
/** A sample that does not shrink below this share is of content that is compressed already. */
const WORTHWHILE_RATIO = 0.95;

const compress = promisify(gzip);

/** Sends the bytes from `start` to `end`, both included, and leaves the response open. */
export async function sendBytes(file: ReadableFile, start: number, end: number, response: ServerResponse) {
  if (end < start) return;
  if (file.kind === 'whole') {
    response.write(file.head.subarray(start, end + 1));
    return;
  }
  const content = file.handle.createReadStream({ start, end, highWaterMark: READ_BYTES, autoClose: false });
  await pipeline(content, response, { end: false });
  const length = end - start + 1;
  // The promised length cannot be kept; only a cut connection tells the client so.
  if (content.bytesRead !== length) throw new Error(`the file ended after ${content.bytesRead} of ${length} bytes`);
}

/** Sends all of a file whose size is not known until it ends. */
export async function sendUntilEnd(handle: FileHandle, response: ServerResponse): Promise<void> {
  await pipeline(handle.createReadStream({ start: 0, highWaterMark: READ_BYTES }), response);
}

/** Sends all of a file in gzip's format. */
export async function sendGzip(file: ReadableFile, response: ServerResponse): Promise<void> {
  const level = await worthwhileLevel(file.head);
  if (file.kind === 'whole') {
    response.end(await compress(file.head, { level }));
    return;
  }
  const content = file.handle.createReadStream({ start: 0, highWaterMark: READ_BYTES });
  await pipeline(content, createGzip({ level, chunkSize: GZIP_CHUNK_BYTES }), response);
}

/**
 * Compressing what is compressed already costs much and gains nothing, and the client has asked for the format, not for
 * effort: such content goes out as stored blocks.
 */
async function worthwhileLevel(head: Buffer): Promise<number> {
  if (head.length < SAMPLE_BYTES) return zlib.Z_BEST_SPEED;
  const sample = head.subarray(0, SAMPLE_BYTES);
  const { length } = await compress(sample, { level: zlib.Z_BEST_SPEED });
  return length < sample.length * WORTHWHILE_RATIO ? zlib.Z_BEST_SPEED : zlib.Z_NO_COMPRESSION;
}
