import type { Kysely } from 'kysely';
import type { Database } from './schema.ts';
import type { OneTeam } from './team-scope.ts';

type Db = Kysely<Database>;

/** Records whose a snapshot is that is about to be made. One that has an owner keeps it. */
export async function putSnapshotOwner(
  db: Db,
  { teamId }: OneTeam,
  templateId: string,
  createdAtMs: number,
): Promise<void> {
  await db
    .insertInto('snapshot_owners')
    .values({ template_id: templateId, team_id: teamId, created_at_ms: createdAtMs })
    .onConflict((conflict) => conflict.column('template_id').doNothing())
    .execute();
}

/** Team ids by template id. Snapshots from before there were teams are missing. */
export async function listSnapshotOwners(db: Db): Promise<ReadonlyMap<string, string>> {
  const rows = await db.selectFrom('snapshot_owners').select(['template_id', 'team_id']).execute();
  return new Map(rows.map((row) => [row.template_id, row.team_id]));
}

export async function forgetSnapshotOwner(db: Db, templateId: string): Promise<void> {
  await db.deleteFrom('snapshot_owners').where('template_id', '=', templateId).execute();
}
