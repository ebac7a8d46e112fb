import { NestboxError } from '@nestbox/contract';
import { KeyedMutex, type Logger } from '@nestbox/kit';
import type { Kysely } from 'kysely';
import { systemClock } from './clock.ts';
import { isShared } from './store/dialect.ts';
import { dropLease, takeLease, turnLease } from './store/lease-repository.ts';
import type { Database } from './store/schema.ts';

const POLL_MS = 100;
const RENEWALS = 4;

export interface TurnsOptions {
  readonly db: Kysely<Database>;
  readonly logger: Logger;
  readonly serverId: string;
  /** How long after its server died a turn ends. */
  readonly ttlMs: number;
  /** Aborted when the server stops. */
  readonly stopping: AbortSignal;
}

/** Work that is done one after the other for each key, at all servers on the database together. */
export class Turns {
  readonly #options: TurnsOptions;
  readonly #here = new KeyedMutex();

  constructor(options: TurnsOptions) {
    this.#options = options;
  }

  /** Throws `host_unavailable` when the server stops before it is this one's turn. */
  run<T>(key: string, work: () => Promise<T>): Promise<T> {
    return this.#here.run(key, async () => {
      if (!isShared(this.#options.db)) return await work();
      await this.#await(key);
      const done = new AbortController();
      const renewing = this.#renew(key, done.signal);
      try {
        return await work();
      } finally {
        done.abort();
        await renewing;
        await this.#giveBack(key);
      }
    });
  }

  async #await(key: string): Promise<void> {
    const { stopping } = this.#options;
    while (!(await this.#take(key))) {
      await systemClock.sleep(POLL_MS, stopping);
      if (stopping.aborted) throw new NestboxError('host_unavailable', 'This server is stopping.');
    }
  }

  async #take(key: string): Promise<boolean> {
    const { db, serverId: holder, ttlMs } = this.#options;
    return (await takeLease(db, { name: turnLease(key), holder, reaches: true, ttlMs })) !== undefined;
  }

  /** Never rejects: a server that cannot reach its database for so long asks nothing of hosts any more. */
  async #renew(key: string, signal: AbortSignal): Promise<void> {
    for (;;) {
      await systemClock.sleep(this.#options.ttlMs / RENEWALS, signal);
      if (signal.aborted) return;
      await this.#take(key).catch((error: unknown) =>
        this.#options.logger.warn({ err: error, key }, 'A turn could not be renewed'),
      );
    }
  }

  /** Never rejects: it runs out by itself. */
  async #giveBack(key: string): Promise<void> {
    const { db, serverId, logger } = this.#options;
    await dropLease(db, turnLease(key), serverId).catch((error: unknown) =>
      logger.warn({ err: error, key }, 'A turn could not be given back; it runs out by itself'),
    );
  }
}
