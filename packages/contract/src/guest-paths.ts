import { GUEST_INTERNAL_PATHS } from './guest.ts';

/** Percent-decoding is repeated, since a second proxy or a router behind us may decode once more. */
const MAX_DECODE_PASSES = 4;

/**
 * Tells whether a request target reaches a route of the guest agent that only the host may call
 * (`GUEST_INTERNAL_PATHS`), however it is spelled: dot segments, doubled slashes, backslashes, percent-encoding,
 * absolute or network form, path parameters, letter case. Each of them is read by some router as the plain path, so
 * every reading counts; no public route of the guest agent has a spelling that is caught by it.
 *
 * `rawPath` is the request target as it came on the wire, with or without query. Only meaningful for GUEST_AGENT_PORT.
 */
export function isInternalGuestPath(rawPath: string): boolean {
  let target = rawPath;
  for (let pass = 0; pass <= MAX_DECODE_PASSES; pass++) {
    if (readings(target).some((path) => GUEST_INTERNAL_PATHS.has(path))) return true;
    const decoded = percentDecode(target);
    if (decoded === target) return false;
    target = decoded;
  }
  // Nothing legitimate is encoded this often.
  return true;
}

/** The paths that different parsers would see in one target: as it is, and with its first part taken for an authority. */
function readings(target: string): string[] {
  const path = withoutControls(target).replaceAll('\\', '/').toLowerCase().split(/[?#]/, 1)[0] ?? '';
  const withoutScheme = path.replace(/^[a-z][a-z0-9+.-]*:/, '');
  const found = [resolvePath(path), resolvePath(withoutScheme)];
  if (withoutScheme.startsWith('//')) found.push(resolvePath(withoutScheme.replace(/^\/+[^/]*/, '')));
  return found;
}

/** Collapses slashes, drops path parameters and trailing slashes, and applies dot segments. */
function resolvePath(path: string): string {
  const kept: string[] = [];
  for (const segment of path.split('/')) {
    const name = segment.split(';', 1)[0] ?? '';
    if (name === '..') kept.pop();
    else if (name !== '' && name !== '.') kept.push(name);
  }
  return `/${kept.join('/')}`;
}

/** WHATWG URL parsers drop tabs and line breaks anywhere; other parsers trim blanks or stop at NUL. */
function withoutControls(text: string): string {
  let kept = '';
  for (const char of text) if (char > ' ' && char !== '\x7f') kept += char;
  return kept;
}

/** Decodes byte by byte and never fails: everything that matters here is ASCII. */
function percentDecode(text: string): string {
  return text.replace(/%([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}
