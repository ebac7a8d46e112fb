import { coversEverything, type EgressRules, NestboxError, subtractRanges } from '@nestbox/contract';
import type { NetworkSlot, ReconcileReport, SandboxNetworks, SlotNetworks } from '../network/network.ts';
import type { SlotRules } from '../network/slot-rules.ts';

/** Slots with what a user says of where their guests may connect to. */
export class GuardedNetworks implements SandboxNetworks {
  readonly #networks: SlotNetworks;

  constructor(networks: SlotNetworks) {
    this.#networks = networks;
  }

  acquire(signal?: AbortSignal): Promise<NetworkSlot> {
    return this.#networks.acquire(signal);
  }

  release(slot: NetworkSlot): Promise<void> {
    return this.#networks.release(slot);
  }

  async setEgress(slot: NetworkSlot, _sandboxId: string, rules: EgressRules): Promise<void> {
    if (rules.domains.length > 0)
      throw new NestboxError('not_supported', 'Rules with names are not supported by this version of Nestbox.');
    await this.#networks.setRules(slot, slotRules(rules));
  }

  reconcile(inUse: readonly number[]): Promise<ReconcileReport> {
    return this.#networks.reconcile(inUse);
  }

  close(): Promise<void> {
    return this.#networks.close();
  }
}

/** DNS would be a way out of a sandbox for which everything is denied. */
function slotRules({ allowed, denied }: EgressRules): SlotRules {
  return {
    denied: subtractRanges(denied, allowed),
    dns: coversEverything(denied) ? 'nobody' : 'host',
    answered: [],
  };
}
