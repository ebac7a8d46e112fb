/**
 * The network rooms of sandboxes. All names and addresses of a slot derive from its index (slot.ts); nothing else is stored.
 */
export interface SandboxNetworks {
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
  /** Opens or closes the way to the internet. Private ranges, the host and other sandboxes stay closed either way. */
  setInternetAccess(slot: NetworkSlot, allowed: boolean): Promise<void>;
  /**
   * At start-up: keeps the slots of these indexes as they are (mending what is missing), removes all others of this
   * installation. Rules that had to be made anew are closed to the internet until setInternetAccess says otherwise.
   */
  reconcile(inUse: readonly number[]): Promise<ReconcileReport>;
  /** Ends pool filling and removes the pooled slots. Slots in use stay. */
  close(): Promise<void>;
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
