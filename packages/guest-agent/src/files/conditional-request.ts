import type { IncomingHttpHeaders } from 'node:http';

/** What RFC 9110, section 13, makes of the request's conditions. */
export type Precondition = 'fulfilled' | 'notModified' | 'failed';

/** Whether the request needs ranges or conditions, which exist for the plain file only. */
export function isPartialOrConditional(headers: IncomingHttpHeaders): boolean {
  const names = ['range', 'if-range', 'if-match', 'if-none-match', 'if-modified-since', 'if-unmodified-since'] as const;
  return names.some((name) => Boolean(headers[name]));
}

/** The time as Last-Modified carries it: whole seconds. */
function wholeSeconds(ms: number): number {
  return Math.floor(ms / 1000);
}

/** Undefined when the header is missing or no date, in which case it is to be ignored. */
function seconds(header: string | undefined): number | undefined {
  const ms = header === undefined ? Number.NaN : Date.parse(header);
  return Number.isNaN(ms) ? undefined : wholeSeconds(ms);
}

/** Files have no entity tag here, so only `*` can match one. */
function matchesAnyTag(header: string): boolean {
  return header.split(',').some((tag) => tag.trim() === '*');
}

/** @param modifiedMs when the file was last modified, Unix milliseconds */
export function evaluatePreconditions(headers: IncomingHttpHeaders, modifiedMs: number): Precondition {
  const modified = wholeSeconds(modifiedMs);
  const { 'if-match': ifMatch, 'if-none-match': ifNoneMatch } = headers;
  if (ifMatch) {
    if (!matchesAnyTag(ifMatch)) return 'failed';
  } else {
    const unmodifiedSince = seconds(headers['if-unmodified-since']);
    if (unmodifiedSince !== undefined && modified > unmodifiedSince) return 'failed';
  }
  if (ifNoneMatch) return matchesAnyTag(ifNoneMatch) ? 'notModified' : 'fulfilled';
  const modifiedSince = seconds(headers['if-modified-since']);
  return modifiedSince !== undefined && modified <= modifiedSince ? 'notModified' : 'fulfilled';
}

/** Whether If-Range lets the Range header count: it must name the very time of the last change. */
export function rangeStillValid(headers: IncomingHttpHeaders, modifiedMs: number): boolean {
  const ifRange = headers['if-range'];
  return ifRange === undefined || (typeof ifRange === 'string' && seconds(ifRange) === wholeSeconds(modifiedMs));
}
