import type { IncomingMessage } from 'node:http';
import { TRAFFIC_TOKEN_HEADER } from './resolve-target.ts';

/** Headers that belong to one connection alone. Source: RFC 9110, section 7.6.1, and what `Connection` names. */
const HOP_BY_HOP = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'proxy-authenticate',
  'proxy-authorization',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

/** `Expect` was answered here already. */
const NOT_TO_GUESTS = new Set(['expect', TRAFFIC_TOKEN_HEADER]);

/** Name, value, name, value…, as they came, in their order and case, without what ends at this hop. */
export function endToEndHeaders(rawHeaders: readonly string[], connection: string | undefined): string[] {
  const named = connection === undefined ? undefined : new Set(connection.toLowerCase().split(/\s*,\s*/));
  const kept: string[] = [];
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] ?? '';
    const lower = name.toLowerCase();
    if (!HOP_BY_HOP.has(lower) && named?.has(lower) !== true) kept.push(name, rawHeaders[i + 1] ?? '');
  }
  return kept;
}

/** Headers of a request for the host's proxy. How its body ends is said again, for this hop. */
export function requestHeaders(request: IncomingMessage): string[] {
  const forwarded = guestHeaders(request);
  if (request.headers['transfer-encoding'] !== undefined) forwarded.push('Transfer-Encoding', 'chunked');
  else if (request.headers['content-length'] === undefined) forwarded.push(...lengthOfNothing(request.method));
  return forwarded;
}

/** The same for a request to change the protocol: the two headers that ask for it are the point of it. */
export function upgradeHeaders(request: IncomingMessage): string[] {
  return [...guestHeaders(request), 'Connection', 'Upgrade', 'Upgrade', request.headers.upgrade ?? ''];
}

function guestHeaders(request: IncomingMessage): string[] {
  const kept = endToEndHeaders(request.rawHeaders, request.headers.connection);
  const forwarded: string[] = [];
  for (let i = 0; i < kept.length; i += 2) {
    const name = kept[i] ?? '';
    if (!NOT_TO_GUESTS.has(name.toLowerCase())) forwarded.push(name, kept[i + 1] ?? '');
  }
  return forwarded;
}

/** Without it node would announce a chunked body for methods that usually have one. */
function lengthOfNothing(method: string | undefined): string[] {
  return method === 'POST' || method === 'PUT' || method === 'PATCH' ? ['Content-Length', '0'] : [];
}
