import type { Logger } from '@nestbox/kit';

/** Something that a sandbox tried and its rules do not allow. */
export interface EgressDenial {
  readonly sandboxId: string;
  readonly atMs: number;
  /** `dns`: a question. `tcp`, `udp`, `icmp`, or the number of another protocol. */
  readonly protocol: string;
  /** As far as it is known: what was asked for, said on the way, or answered for the address before. */
  readonly name: string | undefined;
  readonly address: string | undefined;
  readonly port: number | undefined;
  /** In plain words. */
  readonly reason: string;
  /** Others of this sandbox since the last that was told. */
  readonly untold: number;
}

export type Denial = Pick<EgressDenial, 'protocol' | 'reason'> &
  Partial<Pick<EgressDenial, 'name' | 'address' | 'port'>>;

/** Told of one sandbox at once, and then in a second. */
const BURST = 20;
const PER_SECOND = 2;

interface Bucket {
  tokens: number;
  filledAtMs: number;
  untold: number;
}

/** Tells what was denied to the log and to whoever listens, so much of each sandbox as somebody can read. */
export class DenialFeed {
  readonly #logger: Logger;
  readonly #listeners = new Set<(denial: EgressDenial) => void>();
  readonly #buckets = new Map<string, Bucket>();

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** Returns the undo. The listener must not throw. */
  onDenied(listener: (denial: EgressDenial) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  tell(sandboxId: string, { protocol, name, address, port, reason }: Denial): void {
    const nowMs = Date.now();
    const bucket = this.#buckets.get(sandboxId) ?? { tokens: BURST, filledAtMs: nowMs, untold: 0 };
    this.#buckets.set(sandboxId, bucket);
    const earned = Math.max(0, (nowMs - bucket.filledAtMs) / 1000) * PER_SECOND;
    bucket.tokens = Math.min(BURST, bucket.tokens + earned);
    bucket.filledAtMs = nowMs;
    if (bucket.tokens < 1) {
      bucket.untold += 1;
      return;
    }
    bucket.tokens -= 1;
    const denial = { sandboxId, atMs: nowMs, protocol, name, address, port, reason, untold: bucket.untold };
    bucket.untold = 0;
    // The logger has a name of its own.
    const { name: host, ...facts } = denial;
    this.#logger.info({ ...facts, host }, 'a sandbox tried to connect to what its rules do not allow');
    for (const listener of this.#listeners) listener(denial);
  }

  forget(sandboxId: string): void {
    this.#buckets.delete(sandboxId);
  }
}
