import type { Kysely, SelectQueryBuilder } from 'kysely';
import { fromRow, type SandboxRecord, toRow } from './sandbox-record.ts';
import { type SandboxState, STATES_BEFORE } from './sandbox-state.ts';
import type { Database } from './schema.ts';

/** `Kysely` or `Transaction`: every function here runs in whichever it is given. */
type Db = Kysely<Database>;

export type SortOrder = 'asc' | 'desc';

/** Where a page ended: the next one begins behind this sandbox. */
export interface SandboxCursor {
  readonly startedAtMs: number;
  readonly id: string;
}

export interface RunningSandboxFilter {
  /** Every pair must be there, with equal values. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Template id or name. */
  readonly template?: string | undefined;
  /** Inclusive. */
  readonly startedAfterMs?: number | undefined;
}

export interface SandboxPage {
  readonly order: SortOrder;
  readonly after?: SandboxCursor | undefined;
  readonly limit: number;
}

/** What a host tells of a sandbox when it is ready. */
export interface ReadySandbox {
  readonly vcpuCount: number;
  readonly memoryMib: number;
  readonly diskMib: number;
  readonly envdVersion: string;
  readonly startedAtMs: number;
  readonly endAtMs: number;
}

/** Stores a sandbox that a host is about to be asked for. */
export async function insertSandbox(db: Db, record: SandboxRecord): Promise<void> {
  const insert = async (trx: Db) => {
    await trx.insertInto('sandboxes').values(toRow(record)).execute();
    const pairs = Object.entries(record.metadata ?? {});
    if (pairs.length === 0) return;
    await trx
      .insertInto('sandbox_metadata')
      .values(pairs.map(([key, value]) => ({ sandbox_id: record.id, key, value })))
      .execute();
  };
  if (db.isTransaction) await insert(db);
  else await db.transaction().execute(insert);
}

export async function findSandbox(db: Db, id: string): Promise<SandboxRecord | undefined> {
  const row = await db.selectFrom('sandboxes').selectAll().where('id', '=', id).executeTakeFirst();
  return row && fromRow(row);
}

export async function listSandboxesOfHost(db: Db, hostId: string): Promise<SandboxRecord[]> {
  const rows = await db.selectFrom('sandboxes').selectAll().where('host_id', '=', hostId).execute();
  return rows.map(fromRow);
}

/** Returns false when it is not starting any more: somebody wants it ended. */
export async function markRunning(db: Db, id: string, ready: ReadySandbox): Promise<boolean> {
  const result = await db
    .updateTable('sandboxes')
    .set({
      state: 'running',
      vcpu_count: ready.vcpuCount,
      memory_mib: ready.memoryMib,
      disk_mib: ready.diskMib,
      envd_version: ready.envdVersion,
      started_at_ms: ready.startedAtMs,
      end_at_ms: ready.endAtMs,
    })
    .where('id', '=', id)
    .where('state', 'in', STATES_BEFORE.running)
    .executeTakeFirst();
  return result.numUpdatedRows > 0n;
}

/** Returns false when it was stopping already or there is none. `retryAtMs`: when the reaper looks at it again. */
export async function markStopping(db: Db, id: string, retryAtMs: number): Promise<boolean> {
  const result = await db
    .updateTable('sandboxes')
    .set({ state: 'stopping', end_at_ms: retryAtMs })
    .where('id', '=', id)
    .where('state', 'in', STATES_BEFORE.stopping)
    .executeTakeFirst();
  return result.numUpdatedRows > 0n;
}

/** For the start of the server: nobody waits any more for what was starting. Returns how many there were. */
export async function markAllStartingAsStopping(db: Db, retryAtMs: number): Promise<number> {
  const result = await db
    .updateTable('sandboxes')
    .set({ state: 'stopping', end_at_ms: retryAtMs })
    .where('state', '=', 'starting')
    .executeTakeFirst();
  return Number(result.numUpdatedRows);
}

/** Sets the end of a running sandbox. Returns false when it is not running. */
export async function setEnd(db: Db, id: string, endAtMs: number): Promise<boolean> {
  const result = await db
    .updateTable('sandboxes')
    .set({ end_at_ms: endAtMs })
    .where('id', '=', id)
    .where('state', '=', 'running')
    .executeTakeFirst();
  return result.numUpdatedRows > 0n;
}

/** Moves the end of a running sandbox later, never earlier. Returns false when it is not running. */
export async function extendEnd(db: Db, id: string, endAtMs: number): Promise<boolean> {
  const result = await db
    .updateTable('sandboxes')
    .set((eb) => ({
      end_at_ms: eb.case().when('end_at_ms', '<', endAtMs).then(eb.val(endAtMs)).else(eb.ref('end_at_ms')).end(),
    }))
    .where('id', '=', id)
    .where('state', '=', 'running')
    .executeTakeFirst();
  return result.numUpdatedRows > 0n;
}

/** Sets when ending a stopping sandbox is tried again. */
export async function postponeStop(db: Db, id: string, retryAtMs: number): Promise<void> {
  await db
    .updateTable('sandboxes')
    .set({ end_at_ms: retryAtMs })
    .where('id', '=', id)
    .where('state', '=', 'stopping')
    .execute();
}

export async function deleteSandbox(db: Db, id: string): Promise<boolean> {
  const result = await db.deleteFrom('sandboxes').where('id', '=', id).executeTakeFirst();
  return result.numDeletedRows > 0n;
}

/**
 * Marks as stopping whatever is due by `nowMs`, running or stopping already, and returns the ids, at most `limit`. One
 * statement, so that an end that is moved later at the same moment is not overlooked.
 */
export async function takeDue(db: Db, nowMs: number, retryAtMs: number, limit: number): Promise<string[]> {
  const rows = await db
    .updateTable('sandboxes')
    .set({ state: 'stopping', end_at_ms: retryAtMs })
    .where('id', 'in', (eb) =>
      eb
        .selectFrom('sandboxes')
        .select('id')
        .where('state', 'in', DUE_STATES)
        .where('end_at_ms', '<=', nowMs)
        .orderBy('end_at_ms')
        .limit(limit),
    )
    .returning('id')
    .execute();
  return rows.map(({ id }) => id);
}

/** A running sandbox is due at its end, a stopping one when ending it is to be tried again. */
const DUE_STATES: readonly SandboxState[] = ['running', 'stopping'];

/** When the next running or stopping sandbox is due; undefined when there is none. */
export async function nextDueAtMs(db: Db): Promise<number | undefined> {
  const row = await db
    .selectFrom('sandboxes')
    .select('end_at_ms')
    .where('state', 'in', DUE_STATES)
    .orderBy('end_at_ms')
    .limit(1)
    .executeTakeFirst();
  return row?.end_at_ms;
}

/** Keyset paging over (start, id): a page never shifts when sandboxes come or go. */
export async function listRunning(db: Db, filter: RunningSandboxFilter, page: SandboxPage): Promise<SandboxRecord[]> {
  let query = whereRunning(db.selectFrom('sandboxes'), filter)
    .selectAll('sandboxes')
    .orderBy('sandboxes.started_at_ms', page.order)
    .orderBy('sandboxes.id', page.order)
    .limit(page.limit);
  const { after } = page;
  if (after !== undefined) {
    const beyond = page.order === 'asc' ? '>' : '<';
    query = query.where((eb) =>
      eb.or([
        eb('sandboxes.started_at_ms', beyond, after.startedAtMs),
        eb.and([eb('sandboxes.started_at_ms', '=', after.startedAtMs), eb('sandboxes.id', beyond, after.id)]),
      ]),
    );
  }
  return (await query.execute()).map(fromRow);
}

export async function countRunning(db: Db, filter: RunningSandboxFilter): Promise<number> {
  const row = await whereRunning(db.selectFrom('sandboxes'), filter)
    .select((eb) => eb.fn.countAll().as('total'))
    .executeTakeFirstOrThrow();
  return Number(row.total);
}

/** Memory in MiB that the sandboxes of each host take or are about to take. Hosts without any are missing. */
export async function committedMemoryMib(db: Db): Promise<ReadonlyMap<string, number>> {
  const rows = await db
    .selectFrom('sandboxes')
    .select((eb) => ['host_id', eb.fn.sum('memory_mib').as('total')])
    .groupBy('host_id')
    .execute();
  return new Map(rows.map((row) => [row.host_id, Number(row.total)]));
}

function whereRunning<O>(
  query: SelectQueryBuilder<Database, 'sandboxes', O>,
  filter: RunningSandboxFilter,
): SelectQueryBuilder<Database, 'sandboxes', O> {
  let filtered = query.where('sandboxes.state', '=', 'running');
  const { template, startedAfterMs } = filter;
  if (template !== undefined)
    filtered = filtered.where((eb) =>
      eb.or([eb('sandboxes.template_id', '=', template), eb('sandboxes.alias', '=', template)]),
    );
  if (startedAfterMs !== undefined) filtered = filtered.where('sandboxes.started_at_ms', '>=', startedAfterMs);
  for (const [key, value] of Object.entries(filter.metadata)) {
    filtered = filtered.where((eb) =>
      eb.exists(
        eb
          .selectFrom('sandbox_metadata')
          .select('sandbox_metadata.key')
          .whereRef('sandbox_metadata.sandbox_id', '=', 'sandboxes.id')
          .where('sandbox_metadata.key', '=', key)
          .where('sandbox_metadata.value', '=', value),
      ),
    );
  }
  return filtered;
}
