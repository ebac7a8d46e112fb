import { endToEndHeaders, HOST_ONLY_HEADERS, type HttpExchange } from '@nestbox/kit';

/** Opens a sandbox whose traffic is not public. */
export const TRAFFIC_TOKEN_HEADER = 'e2b-traffic-access-token';
const CLIENT_ADDRESS = 'x-forwarded-for';
const CLIENT_SCHEME = 'x-forwarded-proto';
const CLIENT_HOST = 'x-forwarded-host';

/** Proofs that are for the edge alone, and what it says about the client itself. */
const NOT_FORWARDED: ReadonlySet<string> = new Set([...HOST_ONLY_HEADERS, TRAFFIC_TOKEN_HEADER, CLIENT_ADDRESS]);

/**
 * What an application gets of a request's headers: all of them as they came, without what ends at this hop, and how the
 * client reached the edge. A load balancer in front has said that already for scheme and host.
 */
export function forwardedHeaders({
  rawHeaders,
  headers,
  client,
}: Pick<HttpExchange, 'rawHeaders' | 'headers' | 'client'>): string[] {
  const forwarded = endToEndHeaders(rawHeaders, headers.connection, NOT_FORWARDED);
  const before = headers[CLIENT_ADDRESS];
  const address = client.address ?? 'unknown';
  forwarded.push('X-Forwarded-For', before === undefined ? address : `${String(before)}, ${address}`);
  if (headers[CLIENT_SCHEME] === undefined) forwarded.push('X-Forwarded-Proto', client.scheme);
  if (headers[CLIENT_HOST] === undefined && headers.host !== undefined)
    forwarded.push('X-Forwarded-Host', headers.host);
  return forwarded;
}
