import { NestboxError } from '@nestbox/contract';

/**
 * Reads the list's `metadata` query: `k=v&k2=v2` as a query string of its own, whose keys and values are percent-encoded
 * once more. (Clients thus encode three times in all; the first layer is gone when the query was parsed.)
 * Throws `invalid_request`.
 */
export function parseMetadataFilter(text: string | undefined): Record<string, string> {
  const pairs: [string, string][] = [];
  for (const [key, value] of new URLSearchParams(text ?? '')) pairs.push([decode(key), decode(value)]);
  return Object.fromEntries(pairs);
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch (cause) {
    throw new NestboxError(
      'invalid_request',
      'The query parameter "metadata" must have the form k=v&k2=v2 with percent-encoded keys and values.',
      { cause },
    );
  }
}
