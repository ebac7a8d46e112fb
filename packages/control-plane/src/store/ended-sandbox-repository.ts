import type { Kysely } from 'kysely';
import type { SandboxRecord } from './sandbox-record.ts';
import type { Database } from './schema.ts';
import { EVERY_TEAM, type TeamScope } from './team-scope.ts';

type Db = Kysely<Database>;

export type EndedSandbox = Pick<SandboxRecord, 'id' | 'hostId' | 'teamId'>;

/** As long as the hosts keep what an ended sandbox leaves (logs, samples). */
const KEPT_MS = 7 * 24 * 3_600_000;

/** Remembers where a sandbox was, and forgets those that ended too long ago. */
export async function noteEnd(db: Db, { id, hostId, teamId }: EndedSandbox, nowMs: number): Promise<void> {
  await db
    .deleteFrom('ended_sandboxes')
    .where('ended_at_ms', '<', nowMs - KEPT_MS)
    .execute();
  await db
    .insertInto('ended_sandboxes')
    .values({ id, host_id: hostId, team_id: teamId, ended_at_ms: nowMs })
    .onConflict((conflict) => conflict.column('id').doUpdateSet({ host_id: hostId, ended_at_ms: nowMs }))
    .execute();
}

export async function findEndedSandbox(
  db: Db,
  scope: TeamScope,
  id: string,
): Promise<{ readonly hostId: string } | undefined> {
  let query = db.selectFrom('ended_sandboxes').select('host_id').where('id', '=', id);
  if (scope !== EVERY_TEAM) query = query.where('team_id', '=', scope.teamId);
  const row = await query.executeTakeFirst();
  return row && { hostId: row.host_id };
}
