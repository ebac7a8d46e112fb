import type { Kysely } from 'kysely';
import { fromRow, type SandboxRecord, toRow } from './sandbox-record.ts';
import type { Database } from './schema.ts';
import { inScope, type TeamScope } from './team-scope.ts';

/** `Kysely` or `Transaction`: every function here runs in whichever it is given. */
type Db = Kysely<Database>;

/** Stores sandboxes that a host is about to be asked for: all of them or none. */
export async function insertSandboxes(db: Db, records: readonly SandboxRecord[]): Promise<void> {
  const pairs = records.flatMap(({ id, metadata }) =>
    Object.entries(metadata ?? {}).map(([key, value]) => ({ sandbox_id: id, key, value })),
  );
  const insert = async (trx: Db) => {
    await trx.insertInto('sandboxes').values(records.map(toRow)).execute();
    for (let i = 0; i < pairs.length; i += PAIRS_A_STATEMENT) {
      const some = pairs.slice(i, i + PAIRS_A_STATEMENT);
      await trx.insertInto('sandbox_metadata').values(some).execute();
    }
  };
  // One statement is all or nothing by itself.
  if (db.isTransaction || pairs.length === 0) await insert(db);
  else await db.transaction().execute(insert);
}

/** Databases bound the parameters of a statement; SQLite's bound is 32,766. */
const PAIRS_A_STATEMENT = 1000;

export async function findSandbox(db: Db, scope: TeamScope, id: string): Promise<SandboxRecord | undefined> {
  const row = await db
    .selectFrom('sandboxes')
    .selectAll()
    .where('id', '=', id)
    .where(inScope(scope))
    .executeTakeFirst();
  return row && fromRow(row);
}

export async function listSandboxesOfHost(db: Db, hostId: string): Promise<SandboxRecord[]> {
  const rows = await db.selectFrom('sandboxes').selectAll().where('host_id', '=', hostId).execute();
  return rows.map(fromRow);
}

/** Of all hosts that have sandboxes. */
export async function listHostIds(db: Db): Promise<string[]> {
  const rows = await db.selectFrom('sandboxes').select('host_id').distinct().execute();
  return rows.map((row) => row.host_id);
}

/** `revision`: only when its state has not changed since. Returns false when there was none. */
export async function deleteSandbox(db: Db, id: string, revision?: number): Promise<boolean> {
  let query = db.deleteFrom('sandboxes').where('id', '=', id);
  if (revision !== undefined) query = query.where('revision', '=', revision);
  const result = await query.executeTakeFirst();
  return result.numDeletedRows > 0n;
}

/** Keeps what an update said of where a running sandbox may connect to. Returns false when it is not running. */
export async function setEgress(
  db: Db,
  id: string,
  { allowInternetAccess, network }: Pick<SandboxRecord, 'allowInternetAccess' | 'network'>,
): Promise<boolean> {
  const result = await db
    .updateTable('sandboxes')
    .set({
      allow_internet_access: allowInternetAccess === undefined ? null : Number(allowInternetAccess),
      network: network === undefined ? null : JSON.stringify(network),
    })
    .where('id', '=', id)
    .where('state', '=', 'running')
    .executeTakeFirst();
  return result.numUpdatedRows > 0n;
}

/**
 * Sets the end of a running sandbox. Returns false when it is not running. `timeoutSec` is kept as what the client asked
 * for; 0 is no wish for a life, so it is not.
 */
export async function setEnd(
  db: Db,
  scope: TeamScope,
  id: string,
  endAtMs: number,
  timeoutSec: number,
): Promise<boolean> {
  const result = await db
    .updateTable('sandboxes')
    .set({ end_at_ms: endAtMs, ...(timeoutSec > 0 ? { timeout_sec: timeoutSec } : {}) })
    .where('id', '=', id)
    .where(inScope(scope))
    .where('state', '=', 'running')
    .executeTakeFirst();
  return result.numUpdatedRows > 0n;
}

/**
 * Moves the end of a running sandbox later, never earlier. Returns false when it is not running. `timeoutSec`, when it is
 * given and the end was moved, is kept as what the client asked for.
 */
export async function extendEnd(
  db: Db,
  scope: TeamScope,
  id: string,
  endAtMs: number,
  timeoutSec?: number,
): Promise<boolean> {
  const result = await db
    .updateTable('sandboxes')
    .set((eb) => {
      const later = <T extends 'end_at_ms' | 'timeout_sec'>(column: T, value: number) =>
        eb.case().when('end_at_ms', '<', endAtMs).then(eb.val(value)).else(eb.ref(column)).end();
      return {
        end_at_ms: later('end_at_ms', endAtMs),
        ...(timeoutSec === undefined || timeoutSec === 0 ? {} : { timeout_sec: later('timeout_sec', timeoutSec) }),
      };
    })
    .where('id', '=', id)
    .where(inScope(scope))
    .where('state', '=', 'running')
    .executeTakeFirst();
  return result.numUpdatedRows > 0n;
}

/**
 * Memory in MiB that the sandboxes of each host take or are about to take; paused ones take none. Hosts without any are
 * missing.
 */
export async function committedMemoryMib(db: Db): Promise<ReadonlyMap<string, number>> {
  const rows = await db
    .selectFrom('sandboxes')
    .select((eb) => ['host_id', eb.fn.sum('memory_mib').as('total')])
    .where('state', '!=', 'paused')
    .groupBy('host_id')
    .execute();
  return new Map(rows.map((row) => [row.host_id, Number(row.total)]));
}
