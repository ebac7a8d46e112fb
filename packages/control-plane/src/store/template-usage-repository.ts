import type { Kysely } from 'kysely';
import type { Database } from './schema.ts';

type Db = Kysely<Database>;

export interface TemplateUsage {
  readonly spawnCount: number;
  readonly lastSpawnedAtMs: number;
}

/** Counts one sandbox more for the template. */
export async function countSpawn(db: Db, templateId: string, atMs: number): Promise<void> {
  await db
    .insertInto('template_usage')
    .values({ template_id: templateId, spawn_count: 1, last_spawned_at_ms: atMs })
    .onConflict((conflict) =>
      conflict.column('template_id').doUpdateSet((eb) => ({
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

/** By template id; templates that were never used are missing. */
export async function listTemplateUsage(db: Db): Promise<ReadonlyMap<string, TemplateUsage>> {
  const rows = await db.selectFrom('template_usage').selectAll().execute();
  return new Map(
    rows.map((row) => [row.template_id, { spawnCount: row.spawn_count, lastSpawnedAtMs: row.last_spawned_at_ms }]),
  );
}
