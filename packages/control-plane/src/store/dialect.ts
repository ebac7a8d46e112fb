import { setTimeout as delay } from 'node:timers/promises';
import { type Kysely, PostgresAdapter, type RawBuilder, sql } from 'kysely';

/**
 * What the repositories and migrations need to know of the database system; all else is the same on both.
 * Shared: other control planes may work on the same database, as on PostgreSQL. A SQLite file is one process's own.
 */
export function isShared<DB>(db: Kysely<DB>): boolean {
  return db.getExecutor().adapter instanceof PostgresAdapter;
}

/** The database's own clock, in milliseconds since the Unix epoch; within a transaction it goes on. */
export function databaseNowMs<DB>(db: Kysely<DB>): RawBuilder<number> {
  return isShared(db)
    ? sql<number>`(extract(epoch from clock_timestamp()) * 1000)::bigint`
    : sql<number>`cast(unixepoch('subsec') * 1000 as integer)`;
}

/** Any number, the same in every version: whoever brings the schema up to date holds the advisory lock of it. */
const SCHEMA_LOCK = 7_305_842_611;
const LOCK_RETRY_MS = 100;

/**
 * Runs `work` while nobody else on this database is within this function. Asked for again and again instead of waiting in
 * the database, since waiting would count as a statement that takes too long.
 */
export async function withSchemaLock<DB, T>(db: Kysely<DB>, work: () => Promise<T>): Promise<T> {
  if (!isShared(db)) return await work();
  return await db.connection().execute(async (holder) => {
    const take = sql<{ taken: boolean }>`select pg_try_advisory_lock(${sql.lit(SCHEMA_LOCK)}) as taken`;
    while ((await take.execute(holder)).rows[0]?.taken !== true) await delay(LOCK_RETRY_MS);
    try {
      return await work();
    } finally {
      await sql`select pg_advisory_unlock(${sql.lit(SCHEMA_LOCK)})`.execute(holder);
    }
  });
}
