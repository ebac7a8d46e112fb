import { once } from 'node:events';
import type { Writable } from 'node:stream';
import type { CommandStreams } from './command-session.ts';

/** The reader of our output went away (`nestbox run … | head -1`): nobody is left to run the command for. */
export class OutputClosed extends Error {
  override readonly name = 'OutputClosed';
}

/** This process's own streams. `stop` is called when their reader goes away. */
export function standardStreams(stop: (reason: OutputClosed) => void): CommandStreams {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (cause) => stop(new OutputClosed('standard output was closed', { cause })));
  }
  return {
    input: process.stdin,
    writeOutput: (bytes) => write(process.stdout, bytes),
    writeError: (bytes) => write(process.stderr, bytes),
  };
}

/** Keeps output for a JSON answer. Bytes that are no UTF-8 become U+FFFD. */
export class CollectedOutput {
  readonly #output: Uint8Array[] = [];
  readonly #error: Uint8Array[] = [];
  readonly streams: CommandStreams = {
    input: process.stdin,
    writeOutput: async (bytes) => {
      this.#output.push(bytes);
    },
    writeError: async (bytes) => {
      this.#error.push(bytes);
    },
  };

  get stdout(): string {
    return Buffer.concat(this.#output).toString('utf8');
  }

  get stderr(): string {
    return Buffer.concat(this.#error).toString('utf8');
  }
}

async function write(stream: Writable, bytes: Uint8Array): Promise<void> {
  if (stream.destroyed) return;
  if (!stream.write(bytes)) await Promise.race([once(stream, 'drain'), once(stream, 'close')]);
}
