import type { IncomingHttpHeaders } from 'node:http';

const MAX_TIMER_MS = 2_147_483_647;
const GRPC_UNIT_MS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1_000, m: 1, u: 1e-3, n: 1e-6 };

/**
 * Removes a deadline that is further away than a timer reaches (24.8 days): timers of Node would wrap it around to at
 * once.
 */
export function dropEndlessTimeout(headers: IncomingHttpHeaders): void {
  const connect = headers['connect-timeout-ms'];
  if (typeof connect === 'string' && /^\d{1,10}$/.test(connect) && Number(connect) > MAX_TIMER_MS) {
    delete headers['connect-timeout-ms'];
  }
  const [, count, unit = ''] = /^(\d{1,8})([HMSmun])$/.exec(String(headers['grpc-timeout'] ?? '')) ?? [];
  if (Number(count) * (GRPC_UNIT_MS[unit] ?? 0) > MAX_TIMER_MS) delete headers['grpc-timeout'];
}
