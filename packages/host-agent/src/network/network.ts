import type { EgressRules } from '@nestbox/contract';
import type { AnsweredAddress, SlotRules } from './slot-rules.ts';

/**
 * The network rooms of sandboxes. All names and addresses of a slot derive from its index (slot.ts); nothing else is stored.
 */
interface Networks {
  /**
   * Hands out a prepared slot (from the pool, else made now). The slot is in no one else's hands on this machine,
   * other installations included.
   */
  acquire(signal?: AbortSignal): Promise<NetworkSlot>;
  /**
   * Takes a slot apart; a namespace that had a guest in it is never used again. Tries every step, reports all errors.
   * Releasing a slot that is gone is fine.
   */
  release(slot: NetworkSlot): Promise<void>;
  /**
   * At start-up: keeps the slots of these indexes as they are (mending what is missing), removes all others of this
   * installation. Rules that had to be made anew are closed until setEgress says otherwise.
   */
  reconcile(inUse: readonly number[]): Promise<ReconcileReport>;
  /** Ends pool filling and removes the pooled slots. Slots in use stay. */
  close(): Promise<void>;
}

/** What the manager has of them. */
export interface SandboxNetworks extends Networks {
  /**
   * Says where the guest of a slot may connect to; a slot that was acquired is open. It holds, in one step, for connections
   * that are open already: those that are not allowed any more end. Private ranges, the host and other sandboxes stay closed.
   */
  setEgress(slot: NetworkSlot, sandboxId: string, rules: EgressRules): Promise<void>;
}

/** What the kernel enforces of it. */
export interface SlotNetworks extends Networks {
  /** Replaces the rules of a slot, in one step and for open connections as well. */
  setRules(slot: NetworkSlot, rules: SlotRules): Promise<void>;
  /** Opens addresses that names were answered with, for rules with `dns: 'relay'`. */
  openAddresses(slot: NetworkSlot, addresses: readonly AnsweredAddress[]): Promise<void>;
  /** IPv4 address of the resolver that the host's rules send questions to now. */
  dnsUpstream(): Promise<string>;
  /** Whether no sandbox may ever connect to this address, as far as ranges tell. */
  isClosed(address: number): boolean;
}

export interface NetworkSlot {
  /** 1…32767 */
  readonly index: number;
  /** Name under /run/netns. */
  readonly netnsName: string;
  /** TAP device inside the namespace. */
  readonly tapName: string;
  readonly guestMac: string;
  /** The guest's own address, the same in every VM. */
  readonly guestAddress: string;
  /** Where the host reaches the guest: all ports of this address are DNATed to the guest. */
  readonly hostReachableAddress: string;
}

export interface ReconcileReport {
  readonly kept: readonly number[];
  /** In use, but beyond mending: the namespace is gone, or another installation holds the index. Nothing of ours is left of them. */
  readonly lost: readonly number[];
  /** Names of what was removed, for the log. */
  readonly removed: readonly string[];
}
