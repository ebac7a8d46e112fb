import { timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { RestError } from './rest.ts';

/** `METHOD path` of the routes that check their callers themselves, or need no check. */
const EXEMPT: ReadonlySet<string> = new Set(['GET /health', 'GET /files', 'POST /files', 'POST /init']);

/** Compares secrets in a time that tells nothing about where they differ. */
export function secretsEqual(given: string, expected: string): boolean {
  const a = Buffer.from(given);
  const b = Buffer.from(expected);
  return a.length === b.length && timingSafeEqual(a, b);
}

/** Throws RestError 401 unless the request carries `token`, may do without it, or none is set. */
export function checkAccessToken(request: IncomingMessage, path: string, token: string | undefined): void {
  if (token === undefined || EXEMPT.has(`${request.method} ${path}`)) return;
  const given = request.headers['x-access-token'];
  if (typeof given === 'string' && secretsEqual(given, token)) return;
  throw new RestError(401, 'unauthorized access, please provide a valid access token or method signing if supported');
}
