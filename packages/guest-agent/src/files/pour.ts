import type { Readable, Writable } from 'node:stream';
import { finished } from 'node:stream/promises';

/**
 * Sends everything from `source` to `sink` and returns when `sink` has closed. Unlike `pipeline`, a failing sink leaves
 * the source alone: a request that is destroyed takes its connection, and with it the answer, along.
 * Throws what broke either; a source that ends early destroys the sink.
 */
export async function pour(source: Readable, sink: Writable): Promise<void> {
  finished(source, { writable: false }).catch((error: unknown) => {
    sink.destroy(error instanceof Error ? error : new Error(String(error)));
  });
  source.pipe(sink);
  try {
    await finished(sink, { readable: false });
  } finally {
    source.unpipe(sink);
  }
}
