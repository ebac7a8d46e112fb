import { BlockList, isIPv4 } from 'node:net';
import { GUEST_NETWORK } from '@nestbox/contract';

/** Where the host's own requests come from. Both proxies refuse the host's routes, so nobody else's come from there. */
export class HostAddresses {
  readonly #list = new BlockList();

  constructor(ranges: readonly { readonly address: string; readonly prefixLength: number }[]) {
    for (const { address, prefixLength } of ranges) this.#list.addSubnet(address, prefixLength);
  }

  includes(address: string | undefined): boolean {
    const plain = address?.replace(/^::ffff:/, '') ?? '';
    return isIPv4(plain) && this.#list.check(plain);
  }
}

/** Seen from inside a guest: the host's end of the slot, and the gateway for a VMM that has a network of its own. */
export const GUEST_HOST_ADDRESSES = [
  GUEST_NETWORK.hostRange,
  { address: GUEST_NETWORK.gateway, prefixLength: 32 },
] as const;
