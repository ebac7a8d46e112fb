import { type Kysely, sql } from 'kysely';
import { databaseNowMs, isShared } from './dialect.ts';
import type { Database } from './schema.ts';

/** `Kysely` or `Transaction`: every function here runs in whichever it is given. */
type Db = Kysely<Database>;

const HOST_PREFIX = 'host/';
const SERVER_PREFIX = 'server/';
const TURN_PREFIX = 'turn/';

/** What one lease is about: looking after a host, being alive, or having its turn at something. */
export function hostLease(hostId: string): string {
  return HOST_PREFIX + hostId;
}

export function serverLease(serverId: string): string {
  return SERVER_PREFIX + serverId;
}

export function turnLease(key: string): string {
  return TURN_PREFIX + key;
}

export interface LeaseWish {
  readonly name: string;
  readonly holder: string;
  /** The holder reaches what the lease is about. One that does gets the lease of one that does not. */
  readonly reaches: boolean;
  /** From now on, by the database's clock. Undefined: for ever, whoever has it, since nobody else can work on the database. */
  readonly ttlMs: number | undefined;
}

/** Takes or renews a lease. Its token grows with each change of the holder. Undefined: another one has it. */
export async function takeLease(db: Db, { name, holder, reaches, ttlMs }: LeaseWish): Promise<number | undefined> {
  const now = databaseNowMs(db);
  const expiresAtMs = ttlMs === undefined ? Number.MAX_SAFE_INTEGER : sql<number>`${now} + ${sql.lit(ttlMs)}`;
  const row = await db
    .insertInto('leases')
    .values({ name, holder, token: 1, expires_at_ms: expiresAtMs, reaches: Number(reaches) })
    .onConflict((conflict) =>
      conflict
        .column('name')
        .doUpdateSet((eb) => ({
          holder,
          token: eb
            .case()
            .when('leases.holder', '=', holder)
            .then(eb.ref('leases.token'))
            .else(eb('leases.token', '+', 1))
            .end(),
          expires_at_ms: eb.ref('excluded.expires_at_ms'),
          reaches: eb.ref('excluded.reaches'),
        }))
        // The holder's own, one that has run out, one that is of more use here, and any when nobody else can have it.
        .where(({ eb, or, and }) =>
          or([
            eb('leases.holder', '=', holder),
            eb('leases.expires_at_ms', '<=', now),
            ...(reaches ? [eb('leases.reaches', '=', 0)] : []),
            ...(ttlMs === undefined ? [and([])] : []),
          ]),
        ),
    )
    .returning('token')
    .executeTakeFirst();
  return row?.token;
}

/** Gives back all that this holder has. Host leases keep their rows, and so their tokens. */
export async function giveBackLeases(db: Db, holder: string): Promise<void> {
  await db.updateTable('leases').set({ expires_at_ms: 0 }).where('holder', '=', holder).execute();
  await db.deleteFrom('leases').where('name', '=', serverLease(holder)).execute();
}

/** Of this holder, if it has it still. */
export async function dropLease(db: Db, name: string, holder: string): Promise<void> {
  await db.deleteFrom('leases').where('name', '=', name).where('holder', '=', holder).execute();
}

/** Forgets servers that are dead, and turns that they had: all but this one, and what they had, when nobody else can work on the database. */
export async function dropDeadServers(db: Db, serverId: string, isAlone: boolean): Promise<void> {
  if (isAlone) await db.updateTable('leases').set({ expires_at_ms: 0 }).where('holder', '!=', serverId).execute();
  await db
    .deleteFrom('leases')
    .where((eb) => eb.or([eb('name', 'like', `${SERVER_PREFIX}%`), eb('name', 'like', `${TURN_PREFIX}%`)]))
    .where('name', '!=', serverLease(serverId))
    .where('expires_at_ms', '<=', databaseNowMs(db))
    .execute();
}

/** Who has a lease, or had it last. */
export async function findLease(
  db: Db,
  name: string,
): Promise<{ readonly holder: string; readonly expiresAtMs: number } | undefined> {
  return await db
    .selectFrom('leases')
    .select(['holder', 'expires_at_ms as expiresAtMs'])
    .where('name', '=', name)
    .executeTakeFirst();
}

/** Who has a lease now. */
export async function findHolder(db: Db, name: string): Promise<string | undefined> {
  const row = await db
    .selectFrom('leases')
    .select('holder')
    .where('name', '=', name)
    .where('expires_at_ms', '>', databaseNowMs(db))
    .executeTakeFirst();
  return row?.holder;
}

/** Whoever has a lease that has not run out. */
export async function listHolders(db: Db): Promise<string[]> {
  const rows = await db
    .selectFrom('leases')
    .select('holder')
    .distinct()
    .where('expires_at_ms', '>', databaseNowMs(db))
    .execute();
  return rows.map(({ holder }) => holder);
}

/** The hosts that some server looks after now. */
export async function listHostsLookedAfter(db: Db): Promise<string[]> {
  const rows = await db
    .selectFrom('leases')
    .select('name')
    .where('name', 'like', `${HOST_PREFIX}%`)
    .where('expires_at_ms', '>', databaseNowMs(db))
    .execute();
  return rows.map(({ name }) => name.slice(HOST_PREFIX.length));
}

/** Whether a server has said in time that it lives. */
export async function isServerAlive(db: Db, serverId: string): Promise<boolean> {
  const row = await db
    .selectFrom('leases')
    .select('token')
    .where('name', '=', serverLease(serverId))
    .where('expires_at_ms', '>', databaseNowMs(db))
    .executeTakeFirst();
  return row !== undefined;
}

/**
 * Whether a lease is still held with this token. In a transaction on a shared database nobody else gets it until the end of
 * that: what is written together with this is written by its holder.
 */
export async function lockLease(trx: Db, name: string, holder: string, token: number): Promise<boolean> {
  const query = trx
    .selectFrom('leases')
    .select('token')
    .where('name', '=', name)
    .where('holder', '=', holder)
    .where('token', '=', token)
    .where('expires_at_ms', '>', databaseNowMs(trx));
  return (await (isShared(trx) ? query.forShare() : query).executeTakeFirst()) !== undefined;
}

/** The same for all hosts that the holder looks after: their ids. */
export async function lockHostsOf(trx: Db, holder: string): Promise<string[]> {
  const query = trx
    .selectFrom('leases')
    .select('name')
    .where('name', 'like', `${HOST_PREFIX}%`)
    .where('holder', '=', holder)
    .where('expires_at_ms', '>', databaseNowMs(trx));
  const rows = await (isShared(trx) ? query.forShare() : query).execute();
  return rows.map(({ name }) => name.slice(HOST_PREFIX.length));
}

/** Milliseconds since the Unix epoch by the database's clock. */
export async function readDatabaseTime(db: Db): Promise<number> {
  const { rows } = await sql<{ now: number }>`select ${databaseNowMs(db)} as now`.execute(db);
  return Number(rows[0]?.now);
}
