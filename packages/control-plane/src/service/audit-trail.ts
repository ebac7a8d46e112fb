import type { Logger } from '@nestbox/kit';
import type { Kysely } from 'kysely';
import { type Clock, systemClock } from '../clock.ts';
import { type AuditEntry, insertAuditEntries, newAuditId, trimAuditEntries } from '../store/audit-repository.ts';
import type { Database } from '../store/schema.ts';

/** How long what is written down is kept. */
export interface AuditLimits {
  readonly keepDays: number;
  /** Of each team's keys; as many of administrators and of the server itself for each team, and of refused attempts. */
  readonly maxEntries: number;
}

export const DEFAULT_AUDIT_LIMITS: AuditLimits = { keepDays: 90, maxEntries: 100_000 };

const DAY_MS = 86_400_000;
/** How often refused attempts are written, and what is too old dropped. */
const PERIOD_MS = 60_000;
/** Addresses that are told apart in a period; what comes from further ones is counted together. */
const MAX_ADDRESSES = 1000;

/** What the server does with a sandbox for a reason of its own. */
export interface OwnChange {
  readonly operation: 'sandbox.kill' | 'sandbox.pause' | 'sandbox.resume' | 'sandbox.end' | 'sandbox.adopt';
  readonly sandboxId: string;
  readonly teamId: string;
  readonly reason: string;
}

/** What somebody showed who was not let in. */
export type RefusedCredential = 'key' | 'admin' | 'nothing';

export interface AuditTrailOptions {
  readonly db: Kysely<Database>;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly limits: AuditLimits;
}

interface Refusals {
  readonly credential: RefusedCredential;
  readonly address: string | undefined;
  readonly firstAtMs: number;
  count: number;
}

/**
 * Writes down who changed what. A change is in the database before its answer leaves; refused attempts to get in, of which
 * there may be any number, are counted in memory and written once a minute.
 */
export class AuditTrail {
  readonly #options: AuditTrailOptions;
  #refusals = new Map<string, Refusals>();

  constructor(options: AuditTrailOptions) {
    this.#options = options;
  }

  /** Resolves when it is in the database. Never rejects: what was done cannot be undone for that, so the log has it then. */
  async note(change: Omit<AuditEntry, 'id' | 'atMs' | 'count'>): Promise<void> {
    const atMs = this.#options.clock.now();
    await this.#insert([{ ...change, id: newAuditId(atMs), atMs, count: 1 }]);
  }

  /** What the server has done by itself. Never rejects either. */
  async noteOwn(change: OwnChange): Promise<void> {
    await this.#insert([this.#ownEntry(change)]);
  }

  /** The same within the transaction that does it: neither is there without the other. */
  async writeOwn(db: Kysely<Database>, changes: readonly OwnChange[]): Promise<void> {
    await insertAuditEntries(
      db,
      changes.map((change) => this.#ownEntry(change)),
    );
  }

  /** Counts an attempt that was answered 401. */
  noteRefusal(credential: RefusedCredential, address: string): void {
    const known = this.#refusals.get(`${credential} ${address}`);
    const from = known === undefined && this.#refusals.size >= MAX_ADDRESSES ? undefined : address;
    const place = `${credential} ${from ?? ''}`;
    const refusals = known ??
      this.#refusals.get(place) ?? { credential, address: from, firstAtMs: this.#options.clock.now(), count: 0 };
    refusals.count += 1;
    this.#refusals.set(place, refusals);
  }

  /** Writes refused attempts and drops old entries until the signal is aborted, and what is left then. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#trim();
      await systemClock.sleep(PERIOD_MS, signal);
      await this.writeRefusals();
    }
  }

  /** Never rejects. */
  async writeRefusals(): Promise<void> {
    const refusals = [...this.#refusals.values()];
    this.#refusals = new Map();
    await this.#insert(
      refusals.map(({ credential, address, firstAtMs, count }) => ({
        id: newAuditId(firstAtMs),
        atMs: firstAtMs,
        requestId: undefined,
        operation: `authenticate.${credential}`,
        targets: [],
        teamId: undefined,
        actor: { kind: 'unknown' },
        address,
        status: 401,
        errorCode: 'unauthorized',
        count,
        reason: undefined,
      })),
    );
  }

  #ownEntry({ operation, sandboxId, teamId, reason }: OwnChange): AuditEntry {
    const atMs = this.#options.clock.now();
    return {
      id: newAuditId(atMs),
      atMs,
      requestId: undefined,
      operation,
      targets: [sandboxId],
      teamId,
      actor: { kind: 'system' },
      address: undefined,
      status: undefined,
      errorCode: undefined,
      count: 1,
      reason,
    };
  }

  async #insert(entries: readonly AuditEntry[]): Promise<void> {
    const { db, logger } = this.#options;
    try {
      await insertAuditEntries(db, entries);
    } catch (error) {
      logger.error({ err: error, entries }, 'The audit trail could not be written');
    }
  }

  async #trim(): Promise<void> {
    const { db, clock, logger, limits } = this.#options;
    try {
      await trimAuditEntries(db, clock.now() - limits.keepDays * DAY_MS, limits.maxEntries);
    } catch (error) {
      logger.warn({ err: error }, 'Old entries of the audit trail could not be dropped');
    }
  }
}
