import type { Kysely } from 'kysely';
import type { Database } from './schema.ts';
import type { OneTeam } from './team-scope.ts';

type Db = Kysely<Database>;

export interface TemplateUsage {
  readonly spawnCount: number;
  readonly lastSpawnedAtMs: number;
}

/** Counts one sandbox more of a team for the template. */
export async function countSpawn(db: Db, { teamId }: OneTeam, templateId: string, atMs: number): Promise<void> {
  await db
    .insertInto('template_usage')
    .values({ team_id: teamId, template_id: templateId, spawn_count: 1, last_spawned_at_ms: atMs })
    .onConflict((conflict) =>
      conflict.columns(['team_id', 'template_id']).doUpdateSet((eb) => ({
        spawn_count: eb('template_usage.spawn_count', '+', 1),
        last_spawned_at_ms: atMs,
      })),
    )
    .execute();
}

/** For a template that is gone: its id never comes back. */
export async function forgetUsage(db: Db, templateId: string): Promise<void> {
  await db.deleteFrom('template_usage').where('template_id', '=', templateId).execute();
}

/** By template id; templates that the team never used are missing. */
export async function listTemplateUsage(db: Db, { teamId }: OneTeam): Promise<ReadonlyMap<string, TemplateUsage>> {
  const rows = await db.selectFrom('template_usage').selectAll().where('team_id', '=', teamId).execute();
  return new Map(
    rows.map((row) => [row.template_id, { spawnCount: row.spawn_count, lastSpawnedAtMs: row.last_spawned_at_ms }]),
  );
}
