import type { IncomingMessage } from 'node:http';
import { METADATA_PREFIX, type Metadata } from '../filesystem/metadata.ts';
import { RestError } from '../rest.ts';

const HEADER_PREFIX = 'x-metadata-';
const MAX_KEY_BYTES = 246;
const MAX_TOTAL_BYTES = 4096;
const PRINTABLE_ASCII = /^[\x20-\x7e]*$/;

/**
 * The metadata that an upload carries in `X-Metadata-<Key>` headers, keys in lower case, the first value of each.
 * Throws RestError 400 beyond the limits of envd-interface.md, section 5.2.
 */
export function metadataOfHeaders(headers: IncomingMessage['headersDistinct']): Metadata {
  const metadata: [key: string, value: string][] = [];
  let total = 0;
  for (const [name, values] of Object.entries(headers)) {
    if (!name.startsWith(HEADER_PREFIX)) continue;
    const key = name.slice(HEADER_PREFIX.length);
    const value = values?.[0] ?? '';
    if (key === '') throw invalid('a key is empty');
    if (key.length > MAX_KEY_BYTES) throw invalid(`the key '${key}' is longer than ${MAX_KEY_BYTES} bytes`);
    if (!PRINTABLE_ASCII.test(key)) throw invalid(`the key '${key}' has characters other than printable ASCII`);
    if (!PRINTABLE_ASCII.test(value)) throw invalid(`the value of '${key}' has characters other than printable ASCII`);
    total += METADATA_PREFIX.length + key.length + value.length;
    metadata.push([key, value]);
  }
  if (total > MAX_TOTAL_BYTES) throw invalid(`keys and values together are larger than ${MAX_TOTAL_BYTES} bytes`);
  // Not by assignment, which `__proto__` would survive as something else.
  return Object.fromEntries(metadata);
}

function invalid(reason: string): RestError {
  return new RestError(400, `invalid metadata: ${reason}`);
}
