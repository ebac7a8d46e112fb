import {
  type AddressRange,
  formatIpv4,
  GUEST_NETWORK,
  mergeRanges,
  NestboxError,
  parseRange,
  subtractRanges,
} from '@nestbox/contract';
import { HOST_REACHABLE_RANGE, VETH_RANGE } from './slot.ts';

/**
 * Destinations that no sandbox may reach, whatever its rules: this machine and its private networks, everything that is not
 * ordinary unicast, and the cloud's metadata service (169.254.169.254).
 * Source: the IANA IPv4 special-purpose address registry (RFC 6890) and RFC 1918, without the documentation ranges.
 */
const CLOSED_RANGES = [
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.168.0.0/16',
  '198.18.0.0/15',
  '224.0.0.0/4',
  '240.0.0.0/4',
].map(knownRange);

/** What an operator may not open: it is this machine, its sandboxes, or no place to connect to. */
const NEVER_OPENED = [
  '0.0.0.0/8',
  '127.0.0.0/8',
  '224.0.0.0/4',
  '240.0.0.0/4',
  HOST_REACHABLE_RANGE,
  VETH_RANGE,
  `${GUEST_NETWORK.gateway}/${GUEST_NETWORK.prefixLength}`,
].map(knownRange);

/** The closed ranges without what the operator opens. */
export function closedRanges(opened: readonly AddressRange[]): AddressRange[] {
  return subtractRanges(CLOSED_RANGES, opened);
}

/**
 * Reads what an operator opens for all sandboxes: addresses and CIDR blocks of private networks. Throws invalid_request for
 * what is none, and for ranges with this machine's own.
 */
export function parseOpenedRanges(entries: readonly string[]): AddressRange[] {
  return mergeRanges(
    entries.map((entry) => {
      const range = parseRange(entry);
      if (range === undefined)
        throw new NestboxError('invalid_request', `${JSON.stringify(entry)} is neither an address nor a CIDR block.`);
      const taken = NEVER_OPENED.find((never) => never.first <= range.last && range.first <= never.last);
      if (taken !== undefined)
        throw new NestboxError(
          'invalid_request',
          `${entry} cannot be opened for sandboxes: ${formatIpv4(taken.first)} to ${formatIpv4(taken.last)} stays closed.`,
        );
      return range;
    }),
  );
}

/** As a set of a table; the rules name it `@closed`. */
export function closedSet(closed: readonly AddressRange[]): string {
  return `set closed {
    type ipv4_addr
    flags interval
    elements = { ${formatRanges(closed)} }
  }`;
}

/** In the words of nft. The ranges must be merged: sets take no elements that overlap. */
export function formatRanges(ranges: readonly AddressRange[]): string {
  return ranges
    .map(({ first, last }) => (first === last ? formatIpv4(first) : `${formatIpv4(first)}-${formatIpv4(last)}`))
    .join(', ');
}

function knownRange(text: string): AddressRange {
  const range = parseRange(text);
  if (range === undefined) throw new RangeError(`${text} is no range of addresses`);
  return range;
}
