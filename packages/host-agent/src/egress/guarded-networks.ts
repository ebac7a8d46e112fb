import { type EgressRules, isOpen } from '@nestbox/contract';
import type { Logger } from '@nestbox/kit';
import type { NetworkSlot, ReconcileReport, SandboxNetworks, SlotNetworks } from '../network/network.ts';
import { OPEN_RULES } from '../network/slot-rules.ts';
import { DenialFeed, type EgressDenial } from './denials.ts';
import { NameLookup } from './name-lookup.ts';
import type { SlotGate, SlotGateParts } from './slot-gate.ts';

type GateMaker = (parts: Omit<SlotGateParts, 'sockets'>) => SlotGate;

async function loadGates(): Promise<GateMaker> {
  const [{ NamespaceSockets }, { SlotGate }] = await Promise.all([
    import('./namespace-sockets.ts'),
    import('./slot-gate.ts'),
  ]);
  const sockets = new NamespaceSockets();
  return (parts) => new SlotGate({ ...parts, sockets });
}

/**
 * Slots with what a user says of where their guests may connect to. A sandbox without rules has nothing of this: no gate, no
 * socket, and native code is loaded with the first rules of the host agent.
 */
export class GuardedNetworks implements SandboxNetworks {
  readonly #networks: SlotNetworks;
  readonly #logger: Logger;
  readonly #denials: DenialFeed;
  readonly #lookup: NameLookup;
  readonly #gates = new Map<number, SlotGate>();
  #gateMaker: Promise<GateMaker> | undefined;

  constructor(networks: SlotNetworks, logger: Logger) {
    this.#networks = networks;
    this.#logger = logger;
    this.#denials = new DenialFeed(logger);
    this.#lookup = new NameLookup({
      upstream: () => networks.dnsUpstream(),
      isClosed: (address) => networks.isClosed(address),
    });
  }

  /** What rules have denied, for whoever shows it. Returns the undo. The listener must not throw. */
  onDenied(listener: (denial: EgressDenial) => void): () => void {
    return this.#denials.onDenied(listener);
  }

  acquire(signal?: AbortSignal): Promise<NetworkSlot> {
    return this.#networks.acquire(signal);
  }

  /** A namespace lives as long as a socket of it is open, so those go first. */
  async release(slot: NetworkSlot): Promise<void> {
    const gate = this.#gates.get(slot.index);
    this.#gates.delete(slot.index);
    try {
      await gate?.close();
    } finally {
      await this.#networks.release(slot);
    }
  }

  async setEgress(slot: NetworkSlot, sandboxId: string, rules: EgressRules): Promise<void> {
    const known = this.#gates.get(slot.index);
    if (known === undefined && isOpen(rules)) return this.#networks.setRules(slot, OPEN_RULES);
    const gate = known ?? (await this.#makeGate(slot, sandboxId));
    return gate.setRules(rules);
  }

  reconcile(inUse: readonly number[]): Promise<ReconcileReport> {
    return this.#networks.reconcile(inUse);
  }

  /** Sandboxes that go on keep their rules; nobody answers their resolver and relay until the next host agent does. */
  async close(): Promise<void> {
    const gates = [...this.#gates.values()];
    this.#gates.clear();
    await Promise.all(gates.map((gate) => gate.close()));
    await this.#networks.close();
  }

  async #makeGate(slot: NetworkSlot, sandboxId: string): Promise<SlotGate> {
    this.#gateMaker ??= loadGates();
    const make = await this.#gateMaker;
    const gate = make({
      slot,
      sandboxId,
      networks: this.#networks,
      lookup: this.#lookup,
      denials: this.#denials,
      logger: this.#logger.child({ sandboxId }),
    });
    this.#gates.set(slot.index, gate);
    return gate;
  }
}
