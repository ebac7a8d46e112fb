import { randomInt } from 'node:crypto';
import { type EgressRules, GUEST_NETWORK } from '@nestbox/contract';
import type { NetworkSlot, ReconcileReport, SandboxNetworks } from '../network/network.ts';

/**
 * Networks for tests without root: each slot is an address of the loopback network (127.0.0.0/8 is all local), where a
 * guest agent that runs as a plain process listens.
 */
export class LoopbackNetworks implements SandboxNetworks {
  readonly inUse = new Map<number, NetworkSlot>();
  /** What was set last; nothing for a slot that is as it was acquired. */
  readonly egress = new Map<number, EgressRules>();
  /** Indexes whose namespace a reconcile shall find lost. */
  readonly lost = new Set<number>();
  acquireError: Error | undefined;
  egressError: Error | undefined;

  async acquire(signal?: AbortSignal): Promise<NetworkSlot> {
    signal?.throwIfAborted();
    if (this.acquireError !== undefined) throw this.acquireError;
    let index: number;
    do index = randomInt(1, 32_768);
    while (this.inUse.has(index));
    const slot = {
      index,
      netnsName: `loopback-${index}`,
      tapName: GUEST_NETWORK.tapName,
      guestMac: GUEST_NETWORK.mac,
      guestAddress: GUEST_NETWORK.address,
      // A random second byte keeps test files that run at the same time apart.
      hostReachableAddress: `127.${randomInt(16, 250)}.${index >> 8}.${Math.max(1, index & 0xff)}`,
    };
    this.inUse.set(index, slot);
    return slot;
  }

  async release(slot: NetworkSlot): Promise<void> {
    this.inUse.delete(slot.index);
  }

  async setEgress(slot: NetworkSlot, _sandboxId: string, rules: EgressRules): Promise<void> {
    if (this.egressError !== undefined) throw this.egressError;
    this.egress.set(slot.index, rules);
  }

  async reconcile(inUse: readonly number[]): Promise<ReconcileReport> {
    const lost = inUse.filter((index) => this.lost.has(index));
    const removed = [...this.inUse.keys()].filter((index) => !inUse.includes(index) || lost.includes(index));
    for (const index of removed) this.inUse.delete(index);
    return { kept: inUse.filter((index) => !lost.includes(index)), lost, removed: removed.map(String) };
  }

  async close(): Promise<void> {}
}
