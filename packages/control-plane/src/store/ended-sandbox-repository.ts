import type { Kysely } from 'kysely';
import type { Database } from './schema.ts';

type Db = Kysely<Database>;

/** As long as the hosts keep what an ended sandbox leaves (logs, samples). */
const KEPT_MS = 7 * 24 * 3_600_000;

/** Remembers where a sandbox was, and forgets those that ended too long ago. */
export async function noteEnd(db: Db, id: string, hostId: string, nowMs: number): Promise<void> {
  await db
    .deleteFrom('ended_sandboxes')
    .where('ended_at_ms', '<', nowMs - KEPT_MS)
    .execute();
  await db
    .insertInto('ended_sandboxes')
    .values({ id, host_id: hostId, ended_at_ms: nowMs })
    .onConflict((conflict) => conflict.column('id').doUpdateSet({ host_id: hostId, ended_at_ms: nowMs }))
    .execute();
}

export async function findEndedSandbox(db: Db, id: string): Promise<{ readonly hostId: string } | undefined> {
  const row = await db.selectFrom('ended_sandboxes').select('host_id').where('id', '=', id).executeTakeFirst();
  return row && { hostId: row.host_id };
}
