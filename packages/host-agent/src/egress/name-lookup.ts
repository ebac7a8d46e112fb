import { Resolver } from 'node:dns/promises';
import { parseIpv4 } from '@nestbox/contract';

export interface NameLookupOptions {
  /** IPv4 address of the resolver to ask, which may change. A port may follow it. */
  readonly upstream: () => Promise<string>;
  /** Whether no sandbox may ever connect to an address. */
  readonly isClosed: (address: number) => boolean;
}

export interface Addresses {
  /** Without those that no sandbox may connect to. */
  readonly open: readonly number[];
  /** Those were left out. */
  readonly closed: number;
  readonly ttlSec: number;
}

/** Of one answer that was never in time. */
const TIMEOUT_MS = 2500;
const TRIES = 3;
const MAX_CACHED = 2000;
/** Longer than this no answer is believed; the DNS answer in a sandbox says no more either. */
export const MAX_TTL_SEC = 3600;
/** Names with no lifetime at all would be asked for with each connection. */
const MIN_CACHED_SEC = 1;

interface Cached {
  readonly answer: Promise<Addresses>;
  /** Infinity while it is being asked for. */
  expiresAtMs: number;
}

/** Resolves names for sandboxes, by the host's resolver. Answers are kept for their lifetime, so that DNS and relay agree. */
export class NameLookup {
  readonly #options: NameLookupOptions;
  readonly #cache = new Map<string, Cached>();
  #resolver: { readonly upstream: string; readonly resolver: Resolver } | undefined;

  constructor(options: NameLookupOptions) {
    this.#options = options;
  }

  /** Rejects with an error whose `code` is one of `node:dns` (`ENOTFOUND`, `ENODATA`, `ETIMEOUT`, …). */
  async addresses(name: string): Promise<Addresses> {
    const nowMs = Date.now();
    const known = this.#cache.get(name);
    if (known !== undefined && known.expiresAtMs > nowMs) {
      const answer = await known.answer;
      const leftSec = Math.ceil((known.expiresAtMs - nowMs) / 1000);
      return { ...answer, ttlSec: Math.min(answer.ttlSec, leftSec) };
    }
    const cached: Cached = { answer: this.#ask(name), expiresAtMs: Number.POSITIVE_INFINITY };
    this.#cache.delete(name);
    this.#cache.set(name, cached);
    const [oldest] = this.#cache.keys();
    if (this.#cache.size > MAX_CACHED && oldest !== undefined) this.#cache.delete(oldest);
    try {
      const answer = await cached.answer;
      cached.expiresAtMs = Date.now() + Math.max(MIN_CACHED_SEC, answer.ttlSec) * 1000;
      return answer;
    } catch (error) {
      if (this.#cache.get(name) === cached) this.#cache.delete(name);
      throw error;
    }
  }

  /** For what opens no address: `MX`, `TXT`, `SRV` and the like. */
  async resolver(): Promise<Resolver> {
    const upstream = await this.#options.upstream();
    if (this.#resolver?.upstream !== upstream) {
      const resolver = new Resolver({ timeout: TIMEOUT_MS, tries: TRIES });
      resolver.setServers([upstream]);
      this.#resolver = { upstream, resolver };
    }
    return this.#resolver.resolver;
  }

  async #ask(name: string): Promise<Addresses> {
    const resolver = await this.resolver();
    const records = await resolver.resolve4(name, { ttl: true });
    const all = new Set(records.flatMap(({ address }) => parseIpv4(address) ?? []));
    const open = [...all].filter((address) => !this.#options.isClosed(address));
    const ttlSec = Math.min(MAX_TTL_SEC, ...records.map(({ ttl }) => ttl));
    return { open, closed: all.size - open.length, ttlSec };
  }
}
