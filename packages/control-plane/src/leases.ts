import { NestboxError } from '@nestbox/contract';
import type { Logger } from '@nestbox/kit';
import type { Kysely } from 'kysely';
import { systemClock } from './clock.ts';
import { isKnownDead, newServerId } from './server-id.ts';
import { isShared } from './store/dialect.ts';
import {
  dropDeadServers,
  findHolder,
  findLease,
  giveBackLeases,
  hostLease,
  isServerAlive,
  listHolders,
  lockHostsOf,
  lockLease,
  readDatabaseTime,
  serverLease,
  takeLease,
} from './store/lease-repository.ts';
import { listHostIds } from './store/sandbox-repository.ts';
import type { Database } from './store/schema.ts';

type Db = Kysely<Database>;

/** How long after a server died another one takes over. */
export const LEASE_TTL_MS = 10_000;
/** Renewed so often in that time. */
const RENEWALS = 4;
const OWN_POLL_MS = 200;

/** Runs work on the database that counts only as long as its server has the right to do it. Throws `conflict` when it has not. */
export type Write = <T>(work: (db: Db) => Promise<T>) => Promise<T>;

export interface LeasesOptions {
  readonly db: Db;
  readonly logger: Logger;
  readonly ttlMs?: number | undefined;
  /** Of a configured host: whether this server can ask it now. */
  readonly hosts: () => Iterable<{ readonly id: string; readonly reaches: boolean }>;
  /** From now on this server looks after the host. */
  readonly onGained: (hostId: string) => void;
  /** Called when the leases have been renewed. */
  readonly onRenewed: () => Promise<void>;
  /** Called now and then with the database's time, and with `performance.now()` before and after it was asked for. */
  readonly onTime: (databaseMs: number, askedAtMs: number, answeredAtMs: number) => void;
}

interface Held {
  readonly token: number;
  /** `performance.now()` before it was last renewed. */
  readonly renewedAtMs: number;
}

/**
 * Which of the servers on a database looks after which host: ends and pauses what is due there, and brings rows and host
 * together. A lease says so, which is renewed while its holder lives; another server takes it when it has run out, when
 * its holder was a process of the same machine and has died, or when it reaches the host and the holder does not. A host that no server has configured is somebody's too, so that its
 * sandboxes leave the lists at their time. What a holder writes goes through `writer`, and does nothing when the lease is
 * another's by then. On a SQLite file, which is one server's own, all of this is so for ever from the first moment on.
 */
export class Leases implements AsyncDisposable {
  /** Of this process: a new one each start. */
  readonly serverId = newServerId();
  readonly #options: LeasesOptions;
  /** Undefined: nobody else can work on the database. */
  readonly #ttlMs: number | undefined;
  readonly #held = new Map<string, Held>();
  #aliveAtMs = Number.NEGATIVE_INFINITY;
  /** From when on, by `performance.now()`, a server that has not said that it lives is dead. */
  #judgesFromMs = 0;
  readonly #ending = new AbortController();
  #running: Promise<void> | undefined;

  constructor(options: LeasesOptions) {
    this.#options = options;
    this.#ttlMs = isShared(options.db) ? (options.ttlMs ?? LEASE_TTL_MS) : undefined;
  }

  /** Takes what is free and goes on to do so until the end. Throws what the database says. */
  async begin(): Promise<void> {
    await this.#round();
    if (this.#ttlMs !== undefined) this.#running = this.#renew(this.#ttlMs / RENEWALS);
  }

  /** Gives everything back. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#ending.abort();
    await this.#running;
    this.#held.clear();
    const { db, logger } = this.#options;
    await giveBackLeases(db, this.serverId).catch((error: unknown) =>
      logger.warn({ err: error }, 'The leases could not be given back; they run out by themselves'),
    );
  }

  /** The hosts that this server looks after, as far as it knows. */
  heldHosts(): string[] {
    return [...this.#held].filter(([, { renewedAtMs }]) => this.#isFresh(renewedAtMs)).map(([hostId]) => hostId);
  }

  /** For what is done in a host's behalf from now on. Undefined when another server looks after it. */
  writer(hostId: string): Write | undefined {
    const held = this.#held.get(hostId);
    if (held === undefined || !this.#isFresh(held.renewedAtMs)) return undefined;
    const { db } = this.#options;
    return (work) =>
      db.transaction().execute(async (trx) => {
        if (await lockLease(trx, hostLease(hostId), this.serverId, held.token)) return await work(trx);
        throw new NestboxError('conflict', `Another control plane looks after the host ${hostId} by now.`);
      });
  }

  /**
   * For a host that is in this process, so that no other server can look after it. One that was killed has its lease still, unless
   * it was on this machine; one that renews it has the same host id. Throws `conflict` then, else resolves in a moment.
   */
  async requireOwn(hostId: string): Promise<void> {
    if (this.#ttlMs === undefined) return;
    const { db } = this.#options;
    const before = await findLease(db, hostLease(hostId));
    const endMs = performance.now() + (this.#ttlMs / RENEWALS) * 1.5;
    while (!this.#held.has(hostId) && performance.now() < endMs) {
      await systemClock.sleep(OWN_POLL_MS, this.#ending.signal);
      const now = await findLease(db, hostLease(hostId));
      const isRenewed = now?.holder === before?.holder && (now?.expiresAtMs ?? 0) > (before?.expiresAtMs ?? 0);
      if (isRenewed && now?.holder !== this.serverId)
        throw new NestboxError(
          'conflict',
          `Another server on this database has the host ${hostId} too: the state folder of one is a copy of the other's. Remove the file host-id from the copy.`,
        );
    }
  }

  /** By what the database says, since a host may have gone to another server a moment ago. */
  async isLookedAfterElsewhere(hostId: string): Promise<boolean> {
    const holder = await findHolder(this.#options.db, hostLease(hostId));
    return holder !== undefined && holder !== this.serverId;
  }

  /** Runs `work` with the hosts that this server looks after, which it does until the end of the transaction. */
  async withHeldHosts<T>(work: (trx: Db, hostIds: readonly string[]) => Promise<T>): Promise<T> {
    return await this.#options.db
      .transaction()
      .execute(async (trx) => await work(trx, await lockHostsOf(trx, this.serverId)));
  }

  /**
   * To be called before a host is asked to change something. Throws `database_unavailable` when this server could not say
   * for so long that it lives that others may have taken its work over: it was cut off from the database, or stood still.
   */
  requireAlive(): void {
    if (this.#isFresh(this.#aliveAtMs)) return;
    throw new NestboxError(
      'database_unavailable',
      'This server had no contact with its database for so long that another one may have taken over what it did. Try again.',
    );
  }

  /**
   * False for a while after this server was cut off from the database itself: others were too, and could not say that they
   * live.
   */
  mayJudge(): boolean {
    return performance.now() >= this.#judgesFromMs;
  }

  /** Whether another server still works on what it has begun. Throws what the database says. */
  async isAlive(serverId: string): Promise<boolean> {
    return !this.mayJudge() || (await isServerAlive(this.#options.db, serverId));
  }

  #isFresh(renewedAtMs: number): boolean {
    return this.#ttlMs === undefined || performance.now() - renewedAtMs < this.#ttlMs;
  }

  /** Never rejects. */
  async #renew(periodMs: number): Promise<void> {
    const { signal } = this.#ending;
    let failed = false;
    for (;;) {
      await systemClock.sleep(periodMs, signal);
      if (signal.aborted) return;
      try {
        await this.#round();
        failed = false;
      } catch (error) {
        if (!failed) this.#options.logger.warn({ err: error }, 'The leases could not be renewed');
        failed = true;
      }
    }
  }

  async #round(): Promise<void> {
    const { db, hosts, onRenewed, onTime } = this.#options;
    const askedAtMs = performance.now();
    await this.#take(serverLease(this.serverId), true);
    const wasCutOff = this.#running !== undefined && !this.#isFresh(this.#aliveAtMs);
    if (wasCutOff) this.#judgesFromMs = performance.now() + (this.#ttlMs ?? 0);
    this.#aliveAtMs = askedAtMs;
    const readAtMs = performance.now();
    onTime(await readDatabaseTime(db), readAtMs, performance.now());
    for (const holder of await listHolders(db)) if (isKnownDead(holder)) await giveBackLeases(db, holder);
    await dropDeadServers(db, this.serverId, this.#ttlMs === undefined);
    const reaches = new Map((await listHostIds(db)).map((hostId) => [hostId, false]));
    for (const host of hosts()) reaches.set(host.id, host.reaches);
    for (const [hostId, isReached] of reaches) await this.#tryHost(hostId, isReached);
    await onRenewed();
  }

  async #tryHost(hostId: string, reaches: boolean): Promise<void> {
    const { logger, onGained } = this.#options;
    const renewedAtMs = performance.now();
    const before = this.#held.get(hostId);
    const token = await this.#take(hostLease(hostId), reaches);
    if (token === undefined) {
      if (this.#held.delete(hostId)) logger.warn({ hostId }, 'Another control plane looks after a host from now on');
      return;
    }
    this.#held.set(hostId, { token, renewedAtMs });
    if (before?.token === token) return;
    logger.info({ hostId, token }, 'This control plane looks after a host from now on');
    onGained(hostId);
  }

  #take(name: string, reaches: boolean): Promise<number | undefined> {
    return takeLease(this.#options.db, { name, holder: this.serverId, reaches, ttlMs: this.#ttlMs });
  }
}
