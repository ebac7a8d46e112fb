import { GUEST_NETWORK } from '@nestbox/contract';

const MAPPED = '::ffff:';

/** Where the host's own requests come from. Both proxies refuse the host's routes, so nobody else's come from there. */
export class HostAddresses {
  readonly #ranges: readonly { readonly start: number; readonly size: number }[];

  constructor(ranges: readonly { readonly address: string; readonly prefixLength: number }[]) {
    this.#ranges = ranges.map(({ address, prefixLength }) => {
      const size = 2 ** (32 - prefixLength);
      return { start: Math.floor((numberOf(address) ?? 0) / size) * size, size };
    });
  }

  /** `address` as a socket names the other end of its connection. */
  includes(address: string | undefined): boolean {
    const number = address?.startsWith(MAPPED) ? numberOf(address.slice(MAPPED.length)) : numberOf(address ?? '');
    return number !== undefined && this.#ranges.some(({ start, size }) => number >= start && number < start + size);
  }
}

/** Of a dotted IPv4 address, which the kernel wrote. By hand: it is in the way of a restored guest's first request. */
function numberOf(address: string): number | undefined {
  const parts = address.split('.');
  if (parts.length !== 4) return undefined;
  let number = 0;
  for (const part of parts) number = number * 256 + Number(part);
  return number;
}

/** Seen from inside a guest: the host's end of the slot, and the gateway for a VMM that has a network of its own. */
export const GUEST_HOST_ADDRESSES = [
  GUEST_NETWORK.hostRange,
  { address: GUEST_NETWORK.gateway, prefixLength: 32 },
] as const;
