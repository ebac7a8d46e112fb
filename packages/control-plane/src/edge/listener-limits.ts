import type { IncomingMessage } from 'node:http';
import { MAX_HEADER_BYTES } from '@nestbox/kit';

/** Source: host-side contract of the proxies; load balancers in front keep idle connections for less. */
export const HEADERS_TIMEOUT_MS = 10_000;
export const IDLE_TIMEOUT_MS = 620_000;
export const KEEP_ALIVE_PROBE_MS = 60_000;
/** How long the answer to what is no HTTP may be read. */
export const BROKEN_LINGER_MS = 5000;
const STREAM_BUFFER_BYTES = 256 * 1024;

/** What every listener that speaks HTTP/1.1 to clients holds them to. */
export const HTTP1_OPTIONS = {
  /** Cookies and tokens of applications; what is longer gets 431. */
  maxHeaderSize: MAX_HEADER_BYTES,
  headersTimeout: HEADERS_TIMEOUT_MS,
  connectionsCheckingInterval: HEADERS_TIMEOUT_MS / 2,
  keepAliveTimeout: IDLE_TIMEOUT_MS,
  // Uploads and streams take as long as they take.
  requestTimeout: 0,
  // Refused in words of ours: refused-requests.ts.
  requireHostHeader: false,
  highWaterMark: STREAM_BUFFER_BYTES,
} as const;

/**
 * HTTP/2 offers of ordinary clients are declined by ignoring them, and a body cannot be told from the new protocol's
 * bytes: both go on as plain requests.
 */
export function isUpgradeToForward({ headers }: IncomingMessage): boolean {
  if (headers['content-length'] !== undefined || headers['transfer-encoding'] !== undefined) return false;
  return !/\bh2c\b/i.test(headers.upgrade ?? '');
}
