import { GUEST_INTERNAL_PATHS } from './guest.ts';

/** Public routes of the guest agent have short paths; what is longer is none of them. */
const MAX_PATH_LENGTH = 1024;
/** More readings than this has no path that is meant honestly. */
const MAX_READINGS = 256;

/** Paths in which every parser reads the same: words with inner dots between single slashes. */
const UNAMBIGUOUS = /^(\/[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*)+$/;

/**
 * Tells whether a request target reaches a route of the guest agent that only the host may call
 * (`GUEST_INTERNAL_PATHS`), however it is spelled: dot segments, doubled slashes, backslashes, percent-encoding,
 * absolute or network form, path parameters, control characters, letter case. Parsers differ in which of these they
 * undo and in what order, so every order counts: internal is what any sequence of READINGS turns into such a path.
 *
 * `rawPath` is the request target as it came on the wire, with or without query. Only meaningful for GUEST_AGENT_PORT.
 */
export function isInternalGuestPath(rawPath: string): boolean {
  const path = cutQuery(rawPath);
  if (UNAMBIGUOUS.test(path)) return GUEST_INTERNAL_PATHS.has(path.toLowerCase());
  if (path.length > MAX_PATH_LENGTH) return true;
  const seen = new Set([path]);
  // A set hands out what is added while it is walked.
  for (const reading of seen) {
    if (GUEST_INTERNAL_PATHS.has(reading) || seen.size > MAX_READINGS) return true;
    for (const read of READINGS) seen.add(read(reading));
  }
  return false;
}

/** What a parser may do to a path before it looks at it. */
const READINGS: readonly ((path: string) => string)[] = [
  cutQuery,
  cutFragment,
  percentDecode,
  (path) => path.toLowerCase(),
  (path) => path.replaceAll('\\', '/'),
  (path) => path.replace(/\/{2,}/g, '/'),
  (path) => path.replace(/\/+$/, ''),
  (path) => path.replace(/;[^/]*/g, ''),
  (path) => path.replace(/^[A-Za-z][A-Za-z0-9+.-]*:/, ''),
  (path) => path.replace(/^\/{2,}[^/]*/, ''),
  dropControls,
  applyDotSegments,
];

function cutQuery(path: string): string {
  return path.split('?', 1)[0] ?? '';
}

/** A request target has no fragment, so to some parsers `#` is a letter like any other. */
function cutFragment(path: string): string {
  return path.split('#', 1)[0] ?? '';
}

/** Decodes byte by byte and never fails: everything that matters here is ASCII. */
function percentDecode(path: string): string {
  return path.replace(/%([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}

/** URL parsers drop tabs and line breaks anywhere, others trim blanks or stop at NUL. */
function dropControls(path: string): string {
  let kept = '';
  for (const char of path) if (char > ' ' && char !== '\x7f') kept += char;
  return kept;
}

/** RFC 3986, section 5.2.4: an empty segment is a segment and can be taken back like any other. */
function applyDotSegments(path: string): string {
  const kept: string[] = [];
  for (const segment of path.split('/').slice(1)) {
    if (segment === '..') kept.pop();
    else if (segment !== '.') kept.push(segment);
  }
  return `/${kept.join('/')}`;
}
