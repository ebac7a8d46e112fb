import { randomInt } from 'node:crypto';
import { isIPv4 } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { type AddressRange, includesAddress, NestboxError } from '@nestbox/contract';
import type { Logger } from '@nestbox/kit';
import { closedRanges } from './closed-ranges.ts';
import { HostFirewall } from './host-firewall.ts';
import {
  changeNamespaceRules,
  makeNamespace,
  openInNamespace,
  removeNamespaces,
  somethingExists,
} from './namespace.ts';
import type { NetworkSlot, ReconcileReport, SlotNetworks } from './network.ts';
import { reconcileSlots } from './reconcile.ts';
import { FIRST_SLOT, LAST_SLOT, type SlotPlan, slotPlan } from './slot.ts';
import { SlotClaims } from './slot-claims.ts';
import type { AnsweredAddress, SlotRules } from './slot-rules.ts';

export interface SandboxNetworksOptions {
  /** The installation's tag: resolvePaths().instance. */
  readonly instance: string;
  /** Prepared slots to keep; 0 makes each one when it is asked for. */
  readonly poolSize: number;
  readonly logger: Logger;
  /** Claims on slot indexes, shared by all installations of the machine. Default /run/nestbox/slots. */
  readonly slotsDir?: string;
  /** IPv4 address of the resolver for sandboxes. Default: what the host itself uses, followed when it changes. */
  readonly dnsUpstream?: string;
  /** Private ranges that the operator opens for all sandboxes (parseOpenedRanges). Default none. */
  readonly openedRanges?: readonly AddressRange[];
}

const DEFAULT_SLOTS_DIR = '/run/nestbox/slots';
/** How often the host's rules are looked at while nothing else happens. */
const GUARD_INTERVAL_MS = 30_000;
/** After a slot was handed out; most VMs are up by then. */
const UPKEEP_DELAY_MS = 400;
const FIRST_RETRY_MS = 1_000;
const LAST_RETRY_MS = 30_000;

/**
 * Puts the host's rules in place and begins to fill the pool. Slots of a predecessor are untouched until `reconcile`.
 * Throws NestboxError not_set_up: no root, `ip` or `nft` missing, forwarding cannot be switched on.
 */
export async function createSandboxNetworks(options: SandboxNetworksOptions): Promise<SlotNetworks> {
  if (process.geteuid?.() !== 0)
    throw new NestboxError('not_set_up', 'Sandbox networks need root. Run Nestbox as root, for example with sudo.');
  if (options.dnsUpstream !== undefined && !isIPv4(options.dnsUpstream))
    throw new NestboxError('invalid_request', `The DNS server must be an IPv4 address, not ${options.dnsUpstream}`);
  const closed = closedRanges(options.openedRanges ?? []);
  const firewall = new HostFirewall({
    instance: options.instance,
    dnsUpstream: options.dnsUpstream,
    closed,
    logger: options.logger,
  });
  await firewall.ensure();
  return new PooledNetworks(options, closed, firewall);
}

class PooledNetworks implements SlotNetworks {
  readonly #options: SandboxNetworksOptions;
  readonly #closed: readonly AddressRange[];
  readonly #firewall: HostFirewall;
  readonly #claims: SlotClaims;
  readonly #ready: SlotPlan[] = [];
  /** Every index in the hands of this process: being made, ready or handed out. */
  readonly #held = new Set<number>();
  readonly #closing = new AbortController();
  readonly #guard: NodeJS.Timeout;
  /** Slots being made that nobody waits for any more. */
  readonly #abandoned = new Set<Promise<void>>();
  #filling: Promise<void> | undefined;
  #upkeep: NodeJS.Timeout | undefined;
  #nextIndex = randomInt(FIRST_SLOT, LAST_SLOT + 1);

  constructor(options: SandboxNetworksOptions, closed: readonly AddressRange[], firewall: HostFirewall) {
    this.#options = options;
    this.#closed = closed;
    this.#firewall = firewall;
    this.#claims = new SlotClaims(options.slotsDir ?? DEFAULT_SLOTS_DIR, options.instance);
    this.#guard = setInterval(() => this.#checkRules(), GUARD_INTERVAL_MS).unref();
    this.#fill();
  }

  async acquire(signal?: AbortSignal): Promise<NetworkSlot> {
    if (signal?.aborted) throw givenUp(signal);
    this.#throwIfClosed();
    const ready = this.#ready.shift();
    const slot = ready ?? (await this.#makeOrGiveUp(signal));
    this.#upkeepSoon();
    return slot;
  }

  /** Whoever got a slot is about to start a VM, and the programs that make the next slot would be in its way. */
  #upkeepSoon(): void {
    this.#upkeep ??= setTimeout(() => {
      this.#upkeep = undefined;
      if (this.#closing.signal.aborted) return;
      this.#checkRules();
      this.#fill();
    }, UPKEEP_DELAY_MS).unref();
  }

  async release(slot: NetworkSlot): Promise<void> {
    await this.#remove([slotPlan(this.#options.instance, slot.index)]);
    if (this.#closing.signal.aborted) await this.#removeRulesAfterLastSlot();
  }

  async setRules(slot: NetworkSlot, rules: SlotRules): Promise<void> {
    await changeNamespaceRules(slotPlan(this.#options.instance, slot.index), this.#closed, rules);
  }

  async openAddresses(slot: NetworkSlot, addresses: readonly AnsweredAddress[]): Promise<void> {
    await openInNamespace(slot, addresses);
  }

  dnsUpstream(): Promise<string> {
    return this.#firewall.dnsUpstream();
  }

  isClosed(address: number): boolean {
    return includesAddress(this.#closed, address);
  }

  async reconcile(inUse: readonly number[]): Promise<ReconcileReport> {
    for (const index of inUse) this.#held.add(index);
    const report = await reconcileSlots({
      instance: this.#options.instance,
      claims: this.#claims,
      logger: this.#options.logger,
      inUse,
      closed: this.#closed,
      isHeld: (index) => this.#held.has(index),
    });
    for (const index of report.lost) this.#held.delete(index);
    return report;
  }

  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort();
    clearInterval(this.#guard);
    clearTimeout(this.#upkeep);
    await Promise.all([this.#filling, ...this.#abandoned]);
    await this.#remove(this.#ready.splice(0));
    await this.#removeRulesAfterLastSlot();
    await this.#claims.leave();
  }

  /** Keeps the pool full, one slot after another. Never throws: an acquire that needs a slot meets the error itself. */
  #fill(): void {
    this.#filling ??= this.#fillUp().finally(() => {
      this.#filling = undefined;
    });
  }

  async #fillUp(): Promise<void> {
    const { signal } = this.#closing;
    let retryMs = FIRST_RETRY_MS;
    while (!signal.aborted && this.#ready.length < this.#options.poolSize) {
      try {
        this.#ready.push(await this.#make());
        retryMs = FIRST_RETRY_MS;
      } catch (error) {
        this.#options.logger.warn({ err: error, retryMs }, 'A network slot could not be prepared');
        await delay(retryMs, undefined, { signal, ref: false }).catch(() => undefined);
        retryMs = Math.min(retryMs * 2, LAST_RETRY_MS);
      }
    }
  }

  /** A slot that nobody waits for any more goes into the pool. */
  async #makeOrGiveUp(signal: AbortSignal | undefined): Promise<SlotPlan> {
    if (signal === undefined) return this.#make();
    let abandoned = false;
    const making = this.#make().then(async (slot) => {
      if (abandoned) await this.#putBack(slot);
      return slot;
    });
    const { promise: aborted, reject } = Promise.withResolvers<never>();
    const onAbort = () => {
      abandoned = true;
      reject(givenUp(signal));
      const done = making
        .then(() => undefined)
        .catch((err: unknown) => this.#options.logger.warn({ err }, 'A network slot that nobody waited for is no more'))
        .finally(() => this.#abandoned.delete(done));
      this.#abandoned.add(done);
    };
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      return await Promise.race([making, aborted]);
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  async #putBack(slot: SlotPlan): Promise<void> {
    if (!this.#closing.signal.aborted && this.#ready.length < this.#options.poolSize) this.#ready.push(slot);
    else await this.release(slot);
  }

  async #make(): Promise<SlotPlan> {
    const slot = await this.#claimNext();
    try {
      await makeNamespace(slot, this.#closed);
      return slot;
    } catch (error) {
      // With remains in the kernel the index stays claimed, until a reconcile removes them.
      this.#held.delete(slot.index);
      if (!somethingExists(slot)) await this.#claims.release(slot.index);
      throw NestboxError.from(error);
    }
  }

  /**
   * Indexes are taken in turn, so that one comes again as late as possible: by then the host's connection tracking has
   * forgotten its last owner.
   */
  async #claimNext(): Promise<SlotPlan> {
    const taken = await this.#claims.taken();
    for (let tries = FIRST_SLOT; tries <= LAST_SLOT; tries++) {
      const index = this.#nextIndex;
      this.#nextIndex = index === LAST_SLOT ? FIRST_SLOT : index + 1;
      if (taken.has(index) || this.#held.has(index)) continue;
      const slot = slotPlan(this.#options.instance, index);
      this.#held.add(index);
      try {
        // What exists already is a predecessor's slot without its claim. A VM may run in it: the next reconcile decides.
        if ((await this.#claims.claim(index)) && !somethingExists(slot)) return slot;
      } catch (cause) {
        this.#held.delete(index);
        throw new NestboxError('internal', 'A network slot could not be claimed.', { cause });
      }
      this.#held.delete(index);
    }
    throw new NestboxError('host_capacity', `All ${LAST_SLOT} network slots of this machine are in use.`);
  }

  async #remove(slots: readonly SlotPlan[]): Promise<void> {
    const failures = await removeNamespaces(slots);
    const errors: unknown[] = failures.map(({ error }) => error);
    const failed = new Set(failures.map(({ slot }) => slot.index));
    for (const { index } of slots) {
      // What could not be removed stays claimed; a repeated release or a reconcile tries again.
      this.#held.delete(index);
      if (failed.has(index)) continue;
      try {
        await this.#claims.release(index);
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0)
      throw new NestboxError(
        'internal',
        `Network slots could not be removed: ${[...failed].join(', ') || 'their claims remain'}.`,
        { cause: new AggregateError(errors) },
      );
  }

  async #removeRulesAfterLastSlot(): Promise<void> {
    if ((await this.#claims.list()).length === 0) await this.#firewall.remove();
  }

  #checkRules(): void {
    this.#firewall
      .ensure()
      .catch((err: unknown) =>
        this.#options.logger.error({ err }, 'The network rules of sandboxes could not be checked'),
      );
  }

  #throwIfClosed(): void {
    if (this.#closing.signal.aborted)
      throw new NestboxError('host_unavailable', 'This host agent is stopping and takes no new sandboxes.');
  }
}

function givenUp(signal: AbortSignal): NestboxError {
  return new NestboxError('deadline_exceeded', 'Nobody waits for this network slot any more.', {
    cause: signal.reason,
  });
}
