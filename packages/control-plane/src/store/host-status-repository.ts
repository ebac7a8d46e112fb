import type { Kysely } from 'kysely';
import type { Database } from './schema.ts';

type Db = Kysely<Database>;

/** What an administrator may say of a host. Only a ready one gets new sandboxes. */
export const SETTABLE_HOST_STATUSES = ['ready', 'draining', 'standby'] as const;
export type SettableHostStatus = (typeof SETTABLE_HOST_STATUSES)[number];

export interface StoredHostStatus {
  readonly status: SettableHostStatus;
  readonly changedAtMs: number;
}

/** Returns false when that is what it was. */
export async function putHostStatus(
  db: Db,
  hostId: string,
  { status, changedAtMs }: StoredHostStatus,
): Promise<boolean> {
  const { numInsertedOrUpdatedRows } = await db
    .insertInto('host_statuses')
    .values({ host_id: hostId, status, changed_at_ms: changedAtMs })
    .onConflict((conflict) =>
      conflict
        .column('host_id')
        .doUpdateSet({ status, changed_at_ms: changedAtMs })
        .where('host_statuses.status', '!=', status),
    )
    .executeTakeFirst();
  return numInsertedOrUpdatedRows === 1n;
}

/** By host id. Nothing was said of hosts that are missing: they are ready. */
export async function listHostStatuses(db: Db): Promise<ReadonlyMap<string, StoredHostStatus>> {
  const rows = await db.selectFrom('host_statuses').selectAll().execute();
  return new Map(
    rows.map(({ host_id, status, changed_at_ms }) => [host_id, { status, changedAtMs: changed_at_ms }] as const),
  );
}

/** For a host that has another id from now on: what was said last of any of them is said of it. */
export async function renameHostStatus(db: Db, formerIds: readonly string[], hostId: string): Promise<void> {
  const [newest] = await db
    .selectFrom('host_statuses')
    .select(['status', 'changed_at_ms as changedAtMs'])
    .where('host_id', 'in', [hostId, ...formerIds])
    .orderBy('changed_at_ms', 'desc')
    .limit(1)
    .execute();
  if (newest === undefined) return;
  await db
    .deleteFrom('host_statuses')
    .where('host_id', 'in', [hostId, ...formerIds])
    .execute();
  await putHostStatus(db, hostId, newest);
}
