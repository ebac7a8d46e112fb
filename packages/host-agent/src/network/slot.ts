import { GUEST_NETWORK } from '@nestbox/contract';
import type { NetworkSlot } from './network.ts';

export const FIRST_SLOT = 1;
/** The last index whose veth pair still fits into 10.12.0.0/16. Source: specification of the host, "Network of one sandbox". */
export const LAST_SLOT = 32_767;

/** Where the addresses of slots come from: a /32 each of the first, a /31 each of the second. */
export const HOST_REACHABLE_RANGE = '10.11.0.0/16';
export const VETH_RANGE = `${GUEST_NETWORK.hostRange.address}/${GUEST_NETWORK.hostRange.prefixLength}`;

/** Every installation's namespaces and host-side interfaces begin so, which lets one close its sandboxes off another's. */
export const NAME_PREFIX = 'nb-';

/** The namespace's end of the veth pair. It is made inside the namespace, so its name needs no tag. */
export const UPLINK = 'uplink';

/** Everything that the kernel has of a slot. All of it derives from the installation's tag and the index. */
export interface SlotPlan extends NetworkSlot {
  readonly instance: string;
  /** The host's end of the veth pair; the same text as the namespace's name. At most 15 characters (IFNAMSIZ). */
  readonly vethName: string;
  /** Lower address of the /31, on the host's end. The guest sees the host's connections come from it. */
  readonly hostVethAddress: string;
  /** Upper address of the /31, on the namespace's end. The host sees the guest's connections come from it. */
  readonly uplinkAddress: string;
}

/** Throws RangeError for an index outside 1…32767 or a tag that is not six hex characters. */
export function slotPlan(instance: string, index: number): SlotPlan {
  if (!Number.isInteger(index) || index < FIRST_SLOT || index > LAST_SLOT)
    throw new RangeError(`A slot's index is a whole number from ${FIRST_SLOT} to ${LAST_SLOT}, not ${index}`);
  const name = `${slotNamePrefix(instance)}${index}`;
  return {
    index,
    instance,
    netnsName: name,
    vethName: name,
    tapName: GUEST_NETWORK.tapName,
    guestMac: GUEST_NETWORK.mac,
    guestAddress: GUEST_NETWORK.address,
    hostReachableAddress: addressIn(10, 11, index),
    hostVethAddress: addressIn(10, 12, index * 2),
    uplinkAddress: addressIn(10, 12, index * 2 + 1),
  };
}

/** What the names of all slots of an installation begin with. */
export function slotNamePrefix(instance: string): string {
  if (!/^[0-9a-f]{6}$/.test(instance)) throw new RangeError(`An installation's tag is six hex characters: ${instance}`);
  return `${NAME_PREFIX}${instance}-`;
}

/** The index in the name of a namespace or interface; undefined when it is none of this installation's. */
export function slotIndexOfName(instance: string, name: string): number | undefined {
  const prefix = slotNamePrefix(instance);
  if (!name.startsWith(prefix)) return undefined;
  const digits = name.slice(prefix.length);
  if (!/^[1-9][0-9]{0,4}$/.test(digits)) return undefined;
  const index = Number(digits);
  return index <= LAST_SLOT ? index : undefined;
}

/** One user for each slot, out of a range above everything that Debian, systemd and containers hand out, below 2^31. */
const FIRST_TAP_OWNER_UID = 1_879_048_192;

/** The user that may open the slot's TAP without privileges: the one that the slot's VMM runs as. */
export function tapOwnerUid(slot: Pick<SlotPlan, 'index'>): number {
  return FIRST_TAP_OWNER_UID + slot.index;
}

function addressIn(first: number, second: number, offset: number): string {
  return `${first}.${second}.${offset >> 8}.${offset & 0xff}`;
}
