import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';

/** Headers that belong to one connection and never travel on. Source: RFC 9110, section 7.6.1. */
const HOP_BY_HOP: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

/** Dropping these would change what the message means or how long it is, whatever `Connection` says. */
const ESSENTIAL = ['host', 'content-length', 'authorization', 'cookie'];

/**
 * The end-to-end headers of a message (name, value, name, value…): order, spelling and repetition kept. `connection` is
 * the message's Connection header, which can name more headers of its own connection. `alsoDropped`: lower-case names.
 */
export function endToEndHeaders(
  rawHeaders: readonly string[],
  connection: string | undefined,
  alsoDropped?: ReadonlySet<string>,
): string[] {
  const named = namedByConnection(connection);
  const kept: string[] = [];
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] ?? '';
    const lower = name.toLowerCase();
    if (!HOP_BY_HOP.has(lower) && named?.has(lower) !== true && alsoDropped?.has(lower) !== true)
      kept.push(name, rawHeaders[i + 1] ?? '');
  }
  return kept;
}

/** The same of an answer. One that asks for another protocol says which (426), and that is for the client. */
export function answerEndToEndHeaders({ rawHeaders, headers, statusCode }: IncomingMessage): string[] {
  const kept = endToEndHeaders(rawHeaders, headers.connection);
  if (statusCode === 426 && headers.upgrade !== undefined) kept.push('Upgrade', headers.upgrade);
  return kept;
}

/** Node takes chunks off a body and leaves every other transfer coding on it, of which nobody would know behind this hop. */
export function hasUnknownCoding({ 'transfer-encoding': coding }: IncomingHttpHeaders): boolean {
  return coding !== undefined && !/^(?:chunked|identity)$/i.test(coding.trim());
}

function namedByConnection(connection: string | undefined): Set<string> | undefined {
  if (connection === undefined || USUAL_CONNECTION.has(connection)) return undefined;
  const named = new Set(connection.split(',').map((token) => token.trim().toLowerCase()));
  for (const essential of ESSENTIAL) named.delete(essential);
  return named;
}

/** What nearly every message says; they name nothing else. */
const USUAL_CONNECTION: ReadonlySet<string> = new Set(['keep-alive', 'close', 'Keep-Alive', 'Close', 'Upgrade']);

/** Node lets repeated Host headers pass; two programs that read different ones can be played against each other. */
export function hasSeveralHosts(rawHeaders: readonly string[]): boolean {
  let count = 0;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] ?? '';
    if (name.length === 4 && name.toLowerCase() === 'host') count++;
  }
  return count > 1;
}
