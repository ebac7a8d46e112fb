import { closeSync } from 'node:fs';
import {
  coversEverything,
  DomainPatterns,
  type EgressRules,
  GUEST_NETWORK,
  includesAddress,
  parseIpv4,
  subtractRanges,
} from '@nestbox/contract';
import type { Logger } from '@nestbox/kit';
import type { NetworkSlot, SlotNetworks } from '../network/network.ts';
import {
  type AnsweredAddress,
  DENIED_LOG_GROUP,
  DENIED_SNAP_BYTES,
  RELAY_PORT,
  type SlotRules,
} from '../network/slot-rules.ts';
import type { Denial, DenialFeed } from './denials.ts';
import { logSubscription, NETLINK_NETFILTER, readDeniedPackets } from './denied-packets.ts';
import type { DnsGate } from './dns-answer.ts';
import { DnsServer } from './dns-server.ts';
import { type Addresses, MAX_TTL_SEC, type NameLookup } from './name-lookup.ts';
import { type NamespaceSockets, onReadable, type SocketAddress } from './namespace-sockets.ts';
import { RelayConnection } from './relay-connection.ts';

export interface SlotGateParts {
  readonly slot: NetworkSlot;
  readonly sandboxId: string;
  readonly networks: SlotNetworks;
  readonly sockets: NamespaceSockets;
  readonly lookup: NameLookup;
  readonly denials: DenialFeed;
  readonly logger: Logger;
}

const GATEWAY = parseIpv4(GUEST_NETWORK.gateway) ?? 0;
/** Programs use an answer for a while after its lifetime. */
const MIN_OPEN_SEC = 60;
/** The oldest are closed before there are more. */
const MAX_ANSWERED = 4096;
/** Names that are remembered of one address: under a wildcard a guest can ask for any number. */
const MAX_NAMES = 32;
const MAX_CONNECTIONS = 1024;
const ACCEPT_PAUSE_MS = 100;
const NETLINK_BYTES = 65_536;
const LOG_READS_A_TURN = 64;

interface Answered {
  /** The newest last. Servers that many names share are common (CDNs), and it is open for as long as one of them is allowed. */
  readonly names: readonly string[];
  readonly untilMs: number;
}

interface Listeners {
  readonly dns: DnsServer;
  readonly closeRelay: () => void;
}

/** What of a sandbox's rules needs a program: its resolver, its relay, and the telling of what was denied. */
export class SlotGate implements DnsGate {
  readonly #parts: SlotGateParts;
  readonly #answered = new Map<number, Answered>();
  readonly #connections = new Set<RelayConnection>();
  #patterns = new DomainPatterns([]);
  #denied: SlotRules['denied'] = [];
  #listeners: Listeners | undefined;
  #stopLog: (() => void) | undefined;
  /** Changes of the slot's rules, one after another. */
  #turn: Promise<void> = Promise.resolve();
  #isReleased = false;

  constructor(parts: SlotGateParts) {
    this.#parts = parts;
  }

  /** Puts other rules in force. On failure those from before hold, in the kernel and here. */
  setRules(rules: EgressRules): Promise<void> {
    return this.#next(async () => {
      const { networks, slot } = this.#parts;
      const denied = subtractRanges(rules.denied, rules.allowed);
      const dns = denied.length === 0 ? 'host' : dnsOf(rules);
      const relays = dns === 'relay';
      const patterns = new DomainPatterns(rules.domains);
      const had = this.#listeners !== undefined;
      this.#startLog();
      if (relays) this.#listen();
      const kept = [...this.#answered].flatMap(([address, { names, untilMs }]): [number, Answered][] => {
        const allowed = relays ? names.filter((name) => patterns.matches(name)) : [];
        return allowed.length === 0 ? [] : [[address, { names: allowed, untilMs }]];
      });
      try {
        await networks.setRules(slot, { denied, dns, answered: this.#stillOpen(kept) });
      } catch (error) {
        if (!had) await this.#stopListening();
        throw error;
      }
      this.#patterns = patterns;
      this.#denied = denied;
      this.#answered.clear();
      for (const [address, answered] of kept) this.#answered.set(address, answered);
      if (!relays) await this.#stopListening();
      for (const connection of this.#connections)
        if (denied.length > 0 && connection.name !== undefined && !patterns.matches(connection.name))
          connection.reset();
    });
  }

  isAllowed(name: string): boolean {
    return this.#patterns.matches(name);
  }

  denied(name: string, reason: string): void {
    this.#tell({ protocol: 'dns', name, reason });
  }

  async open(name: string, { open, ttlSec }: Addresses): Promise<void> {
    await this.#next(async () => {
      if (!this.isAllowed(name) || this.#isReleased) return;
      const nowMs = Date.now();
      for (const address of open) this.#noteName(address, name);
      const forSec = Math.min(MAX_TTL_SEC, Math.max(MIN_OPEN_SEC, ttlSec));
      const untilMs = nowMs + forSec * 1000;
      // What is open for as long as the answer lives needs no change, nor what is open by its address.
      const due = open.filter((address) => {
        const leftMs = (this.#answered.get(address)?.untilMs ?? 0) - nowMs;
        return includesAddress(this.#denied, address) && leftMs < Math.max(MIN_OPEN_SEC / 2, ttlSec) * 1000;
      });
      if (due.length === 0) return;
      const { networks, slot } = this.#parts;
      await networks.openAddresses(
        slot,
        due.map((address): AnsweredAddress => ({ address, forSec })),
      );
      for (const address of due) {
        const names = this.#answered.get(address)?.names ?? [name];
        this.#answered.delete(address);
        this.#answered.set(address, { names, untilMs });
      }
      this.#forgetOldest(nowMs);
    });
  }

  /** Ends everything that holds the slot's namespace. */
  async close(): Promise<void> {
    this.#isReleased = true;
    await this.#turn;
    this.#stopLog?.();
    this.#stopLog = undefined;
    await this.#stopListening();
    const connections = [...this.#connections];
    for (const connection of connections) connection.reset();
    await Promise.all(connections.map(({ closed }) => closed));
    this.#parts.denials.forget(this.#parts.sandboxId);
  }

  #next(change: () => Promise<void>): Promise<void> {
    const done = this.#turn.then(change);
    this.#turn = done.catch(() => undefined);
    return done;
  }

  #listen(): void {
    if (this.#listeners !== undefined) return;
    const { sockets, slot, lookup, logger } = this.#parts;
    const relay = sockets.listenTcp(slot.netnsName, { address: GATEWAY, port: RELAY_PORT });
    const opened = [relay];
    try {
      const udp = sockets.bindUdp(slot.netnsName, { address: GATEWAY, port: 53 });
      opened.push(udp);
      const tcp = sockets.listenTcp(slot.netnsName, { address: GATEWAY, port: 53 });
      const dns = new DnsServer({ udp, tcp }, lookup, this, logger);
      this.#listeners = { dns, closeRelay: this.#acceptFrom(relay) };
    } catch (error) {
      for (const fd of opened) closeSync(fd);
      throw error;
    }
  }

  async #stopListening(): Promise<void> {
    const listeners = this.#listeners;
    this.#listeners = undefined;
    listeners?.closeRelay();
    await listeners?.dns.close();
  }

  /** Returns what ends it and closes the descriptor. */
  #acceptFrom(listener: number): () => void {
    let stop = () => {};
    let pause: NodeJS.Timeout | undefined;
    const watch = () => {
      stop = onReadable(listener, () => {
        if (this.#accept(listener)) return;
        // Out of descriptors, for example: those that wait are asked again in a moment.
        stop();
        stop = () => {};
        pause = setTimeout(watch, ACCEPT_PAUSE_MS).unref();
      });
    };
    watch();
    return () => {
      clearTimeout(pause);
      stop();
      closeSync(listener);
    };
  }

  /** False when it cannot go on now. */
  #accept(listener: number): boolean {
    const { sockets, lookup, slot, logger } = this.#parts;
    try {
      for (let fd = sockets.accept(listener); fd !== undefined; fd = sockets.accept(listener)) {
        if (this.#connections.size >= MAX_CONNECTIONS) {
          closeSync(fd);
          this.#tell({ protocol: 'tcp', reason: `more than ${MAX_CONNECTIONS} connections to names at once` });
          continue;
        }
        const destination = this.#destinationOf(fd);
        if (destination === undefined) {
          closeSync(fd);
          continue;
        }
        const connection = new RelayConnection(fd, destination, {
          sockets,
          lookup,
          netnsName: slot.netnsName,
          isAllowed: (name) => this.isAllowed(name) || this.#denied.length === 0,
          denied: (denial) => this.#tell(denial),
        });
        this.#connections.add(connection);
        void connection.closed.then(() => this.#connections.delete(connection));
      }
      return true;
    } catch (err) {
      logger.warn({ err }, 'a connection of a sandbox could not be accepted');
      return false;
    }
  }

  /** Undefined when the kernel has forgotten it: the connection is over already. */
  #destinationOf(fd: number): SocketAddress | undefined {
    try {
      return this.#parts.sockets.originalDestination(fd);
    } catch {
      return undefined;
    }
  }

  /** Never throws: without the log the rules hold all the same. */
  #startLog(): void {
    if (this.#stopLog !== undefined) return;
    const { sockets, slot, logger } = this.#parts;
    try {
      const fd = sockets.openNetlink(
        slot.netnsName,
        NETLINK_NETFILTER,
        logSubscription(DENIED_LOG_GROUP, DENIED_SNAP_BYTES),
      );
      const buffer = Buffer.alloc(NETLINK_BYTES);
      const stop = onReadable(fd, () => this.#readLog(fd, buffer));
      this.#stopLog = () => {
        stop();
        closeSync(fd);
      };
    } catch (err) {
      logger.warn({ err, slot: slot.netnsName }, 'denied packets of a sandbox are not told');
    }
  }

  #readLog(fd: number, buffer: Buffer): void {
    const { sockets, logger } = this.#parts;
    try {
      for (let reads = 0; reads < LOG_READS_A_TURN; reads++) {
        const length = sockets.receive(fd, buffer);
        if (length === 0) return;
        for (const denial of readDeniedPackets(buffer.subarray(0, length))) this.#tell(denial);
      }
    } catch (err) {
      logger.warn({ err }, 'denied packets of a sandbox are not told any more');
      this.#stopLog?.();
      this.#stopLog = () => undefined;
    }
  }

  /** With the name that its address was answered for. */
  #tell(denial: Denial): void {
    const address = denial.address === undefined ? undefined : parseIpv4(denial.address);
    const name = denial.name ?? (address === undefined ? undefined : this.#answered.get(address)?.names.at(-1));
    this.#parts.denials.tell(this.#parts.sandboxId, { ...denial, ...(name === undefined ? {} : { name }) });
  }

  #stillOpen(answered: readonly (readonly [number, Answered])[]): AnsweredAddress[] {
    const nowMs = Date.now();
    return answered.flatMap(([address, { untilMs }]) =>
      untilMs - nowMs < 1000 ? [] : [{ address, forSec: Math.floor((untilMs - nowMs) / 1000) }],
    );
  }

  /** Of an address that another name has opened already. */
  #noteName(address: number, name: string): void {
    const known = this.#answered.get(address);
    if (known === undefined) return;
    const others = known.names.filter((other) => other !== name);
    this.#answered.set(address, { ...known, names: [...others, name].slice(-MAX_NAMES) });
  }

  /** The kernel closes them by itself, at most an hour later. */
  #forgetOldest(nowMs: number): void {
    for (const [address, { untilMs }] of this.#answered) {
      if (this.#answered.size <= MAX_ANSWERED && untilMs > nowMs) return;
      this.#answered.delete(address);
    }
  }
}

/** Where everything is denied, DNS would be a way out: only names of rules are answered, and without such none. */
function dnsOf({ denied, domains }: EgressRules): SlotRules['dns'] {
  if (domains.length > 0) return 'relay';
  return coversEverything(denied) ? 'nobody' : 'host';
}
