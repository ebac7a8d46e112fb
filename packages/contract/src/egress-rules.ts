import { z } from 'zod';
import { parseDomainPattern } from './domain-pattern.ts';
import { NestboxError } from './errors.ts';
import { type AddressRange, coversEverything, LAST_ADDRESS, mergeRanges, parseRange } from './ipv4.ts';

/** What a user says of where a sandbox may connect to; the words of the wire. */
export interface EgressSettings {
  /** False is the same as denying 0.0.0.0/0. */
  readonly allowInternetAccess: boolean;
  /** Addresses, CIDR blocks, and names like `example.com` and `*.example.com`. They win over what is denied. */
  readonly allowOut: readonly string[];
  /** Addresses and CIDR blocks. */
  readonly denyOut: readonly string[];
}

/** The same, understood. Private ranges, the host and other sandboxes are closed on top of it. */
export interface EgressRules {
  /** Merged. */
  readonly allowed: readonly AddressRange[];
  readonly denied: readonly AddressRange[];
  /** Patterns of domain-pattern.ts. Only where everything is denied: what is not denied needs no name. */
  readonly domains: readonly string[];
}

export const OPEN_EGRESS: EgressSettings = { allowInternetAccess: true, allowOut: [], denyOut: [] };

/** Entries of one list; so many cost a connection no more than one does. */
export const MAX_EGRESS_ENTRIES = 1000;

const ALL_TRAFFIC: AddressRange = { first: 0, last: LAST_ADDRESS };
const ipv6 = z.union([z.ipv6(), z.cidrv6()]);

/**
 * Throws NestboxError invalid_request that names the field and the entry. Source of the rules: the description of the API
 * (`allowOut`, `denyOut`): what is allowed wins, names are for `allowOut` alone and need everything else to be denied.
 */
export function parseEgressRules({ allowInternetAccess, allowOut, denyOut }: EgressSettings): EgressRules {
  requireLength('allowOut', allowOut);
  requireLength('denyOut', denyOut);
  const deniedRanges = denyOut.flatMap((entry) => parseDenied(entry));
  const denied = allowInternetAccess ? mergeRanges(deniedRanges) : [ALL_TRAFFIC];
  const allowed: AddressRange[] = [];
  const domains = new Set<string>();
  for (const entry of allowOut) {
    const target = parseAllowed(entry);
    if (typeof target === 'string') domains.add(target);
    else allowed.push(target);
  }
  if (domains.size > 0 && !coversEverything(denied))
    throw new NestboxError(
      'invalid_request',
      'The field "allowOut" names domains, which needs everything else to be denied: put "0.0.0.0/0" into "denyOut".',
    );
  return { allowed: mergeRanges(allowed), denied, domains: [...domains] };
}

/** Whether nothing at all is denied, so that there is nothing to do. */
export function isOpen({ denied }: EgressRules): boolean {
  return denied.length === 0;
}

function parseDenied(entry: string): AddressRange[] {
  // Sandboxes have no IPv6, so this holds already.
  if (ipv6.safeParse(entry).success) return [];
  const range = parseSpecified(entry);
  if (range !== undefined) return [range];
  const hint = parseDomainPattern(entry) === undefined ? '' : '; names can only be allowed';
  throw new NestboxError(
    'invalid_request',
    `The field "denyOut" has ${shown(entry)}, which is neither an address nor a CIDR block${hint}.`,
  );
}

function parseAllowed(entry: string): AddressRange | string {
  const target = parseSpecified(entry) ?? parseDomainPattern(entry);
  if (target !== undefined) return target;
  throw new NestboxError(
    'invalid_request',
    ipv6.safeParse(entry).success
      ? `The field "allowOut" has ${shown(entry)}, but sandboxes have no IPv6.`
      : `The field "allowOut" has ${shown(entry)}, which is no address, CIDR block, name or "*.name".`,
  );
}

/** 0.0.0.0 alone names no destination; whoever writes it means 0.0.0.0/0. */
function parseSpecified(entry: string): AddressRange | undefined {
  return /^0\.0\.0\.0(?:\/32)?$/.test(entry) ? undefined : parseRange(entry);
}

function requireLength(field: string, entries: readonly string[]): void {
  if (entries.length > MAX_EGRESS_ENTRIES)
    throw new NestboxError(
      'invalid_request',
      `The field "${field}" has ${entries.length} entries; ${MAX_EGRESS_ENTRIES} are the most.`,
    );
}

function shown(entry: string): string {
  return JSON.stringify(entry.length > 80 ? `${entry.slice(0, 80)}…` : entry);
}
