import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { promisify } from 'node:util';
import { gunzip, zstdDecompress } from 'node:zlib';
import { NestboxError } from '@nestbox/contract';

type Decompressor = (content: Uint8Array, signal?: AbortSignal) => Promise<Uint8Array>;

/** The forms in which Linux kernels and modules are packed, by their first bytes. Node knows two; tools know the rest. */
const FORMATS: readonly { readonly name: string; readonly magic: readonly number[]; readonly run: Decompressor }[] = [
  { name: 'gzip', magic: [0x1f, 0x8b], run: promisify<Uint8Array, Uint8Array>(gunzip) },
  { name: 'zstd', magic: [0x28, 0xb5, 0x2f, 0xfd], run: promisify<Uint8Array, Uint8Array>(zstdDecompress) },
  { name: 'xz', magic: [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00], run: filter('xz', ['-dc', '--single-stream']) },
  // The "legacy" frame, which is the one the kernel's build writes.
  { name: 'lz4', magic: [0x02, 0x21, 0x4c, 0x18], run: filter('lz4', ['-dc']) },
];

/** Unpacks by the first bytes; content in none of the known forms is returned as it is. */
export async function decompressIfNeeded(content: Uint8Array, signal?: AbortSignal): Promise<Uint8Array> {
  const format = FORMATS.find(({ magic }) => magic.every((byte, index) => content[index] === byte));
  return format === undefined ? content : format.run(content, signal);
}

/** A tool that reads packed bytes and writes plain ones. */
function filter(file: string, args: readonly string[]): Decompressor {
  return async (content, signal) => {
    const child = spawn(file, args, { stdio: ['pipe', 'pipe', 'pipe'], ...(signal && { signal }) });
    const chunks: Uint8Array[] = [];
    let stderr = '';
    child.stdout.on('data', (chunk: Uint8Array) => chunks.push(chunk));
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.stdin.on('error', () => {
      // The tool went away early; its exit code tells.
    });
    child.stdin.end(content);
    try {
      const [exitCode] = await once(child, 'close');
      if (exitCode === 0) return Buffer.concat(chunks);
    } catch (cause) {
      throw new NestboxError('not_set_up', `${file} could not be run; is the package installed?`, { cause });
    }
    throw new NestboxError('internal', `${file} could not unpack part of the guest kernel: ${stderr.trim()}`);
  };
}
