const DEFAULT_INTERVAL_MS = 90_000;
const MAX_INTERVAL_MS = 2_147_483_647;

/**
 * How long a stream may be silent before a keep-alive message goes out: the request's `Keepalive-Ping-Interval` in
 * whole seconds, else 90 s (envd-interface.md, section 2).
 */
export function keepAliveIntervalMs(requestHeader: Headers): number {
  const text = requestHeader.get('Keepalive-Ping-Interval') ?? '';
  const seconds = /^\d{1,9}$/.test(text) ? Number(text) : 0;
  return seconds > 0 ? Math.min(seconds * 1000, MAX_INTERVAL_MS) : DEFAULT_INTERVAL_MS;
}
