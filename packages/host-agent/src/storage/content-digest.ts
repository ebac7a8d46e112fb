import { createHash, webcrypto } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { nextData } from '../memory/file-extents.ts';

/** What is hashed at once, beside the event loop. Part of what the digest is: it may not change. */
const CHUNK_BYTES = 2 ** 20;
const ZEROS = Buffer.alloc(CHUNK_BYTES);

export interface DigestOptions {
  readonly signal?: AbortSignal;
  /** Waited for after each MiB that was read. */
  readonly pace?: () => Promise<void>;
}

/**
 * What a file contains, in 64 hex characters: SHA-256 over the number (8 bytes, little endian) and the SHA-256 of each MiB that is not all
 * zeros, and at the end over the file's size (8 bytes). A hole and written zeros are the same content, and holes are not read. Throws what the
 * system says, and the signal's reason.
 */
export async function contentDigest(path: string, { signal, pace }: DigestOptions = {}): Promise<string> {
  await using file = await open(path, 'r');
  const { size } = await file.stat();
  const sum = createHash('sha256');
  const buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES);
  for (let at = 0; at < size; ) {
    const data = nextData(file.fd, at, size);
    if (data === undefined) break;
    const index = Math.floor(data.start / CHUNK_BYTES);
    const chunk = await readChunk(file, index, buffer, size);
    if (!chunk.equals(ZEROS.subarray(0, chunk.length))) {
      sum.update(asBytes(index));
      sum.update(new Uint8Array(await webcrypto.subtle.digest('SHA-256', chunk)));
    }
    at = (index + 1) * CHUNK_BYTES;
    signal?.throwIfAborted();
    await pace?.();
  }
  return sum.update(asBytes(size)).digest('hex');
}

async function readChunk(file: FileHandle, index: number, buffer: Buffer<ArrayBuffer>, size: number) {
  const start = index * CHUNK_BYTES;
  const chunk = buffer.subarray(0, Math.min(CHUNK_BYTES, size - start));
  for (let done = 0; done < chunk.length; ) {
    const { bytesRead } = await file.read(chunk, done, chunk.length - done, start + done);
    if (bytesRead === 0) throw new Error(`read ${start + done} of ${size} bytes`);
    done += bytesRead;
  }
  return chunk;
}

function asBytes(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}
