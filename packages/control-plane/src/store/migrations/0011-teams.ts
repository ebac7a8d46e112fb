import { randomUUID } from 'node:crypto';
import type { Kysely } from 'kysely';

/** The tables as they are between the two halves of this migration. */
interface Before {
  teams: { id: string; name: string; is_default: number; created_at_ms: number };
  sandboxes: { team_id: string | null };
  ended_sandboxes: { team_id: string | null };
  template_usage: { template_id: string; spawn_count: number; last_spawned_at_ms: number };
  template_usage_of_teams: Before['template_usage'] & { team_id: string };
}

/**
 * Teams, whose sandboxes, snapshots and keys are apart. What is there belongs to the first one, `default`, for which the
 * server's own key speaks. The keys of the version before are dropped: the only one it could have is put in again at each
 * start.
 */
export async function up(untyped: Kysely<unknown>): Promise<void> {
  const db = untyped as Kysely<Before>;
  const { schema } = db;
  await schema
    .createTable('teams')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('name', 'text', (column) => column.notNull().unique())
    .addColumn('is_default', 'integer', (column) => column.notNull())
    .addColumn('created_at_ms', 'bigint', (column) => column.notNull())
    .addColumn('max_running', 'integer')
    .addColumn('max_vcpus', 'integer')
    .addColumn('max_memory_mib', 'bigint')
    .addColumn('max_creates_per_minute', 'integer')
    .addColumn('creates_used_until_ms', 'bigint', (column) => column.notNull().defaultTo(0))
    .execute();
  const teamId = randomUUID();
  await db
    .insertInto('teams')
    .values({ id: teamId, name: 'default', is_default: 1, created_at_ms: Date.now() })
    .execute();

  await schema.dropTable('api_keys').execute();
  await schema
    .createTable('api_keys')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('team_id', 'text', (column) => column.notNull().references('teams.id').onDelete('cascade'))
    .addColumn('name', 'text', (column) => column.notNull())
    .addColumn('key_hash', 'text', (column) => column.notNull().unique())
    .addColumn('value_length', 'integer', (column) => column.notNull())
    .addColumn('shown_prefix', 'text', (column) => column.notNull())
    .addColumn('shown_suffix', 'text', (column) => column.notNull())
    .addColumn('created_at_ms', 'bigint', (column) => column.notNull())
    .addColumn('last_used_at_ms', 'bigint')
    .addColumn('expires_at_ms', 'bigint')
    .addColumn('revoked_at_ms', 'bigint')
    .execute();
  await schema.createIndex('api_keys_by_team').on('api_keys').columns(['team_id', 'created_at_ms']).execute();

  // Nullable, since SQLite adds no column without a default to a table that has rows; every insert names the team.
  await schema.alterTable('sandboxes').addColumn('team_id', 'text').execute();
  await db.updateTable('sandboxes').set({ team_id: teamId }).execute();
  await schema.alterTable('ended_sandboxes').addColumn('team_id', 'text').execute();
  await db.updateTable('ended_sandboxes').set({ team_id: teamId }).execute();
  await schema
    .createIndex('sandboxes_by_team')
    .on('sandboxes')
    .columns(['team_id', 'state', 'started_at_ms', 'id'])
    .execute();

  await schema
    .createTable('snapshot_owners')
    .addColumn('template_id', 'text', (column) => column.primaryKey())
    .addColumn('team_id', 'text', (column) => column.notNull())
    .addColumn('created_at_ms', 'bigint', (column) => column.notNull())
    .execute();

  await schema
    .createTable('template_usage_of_teams')
    .addColumn('team_id', 'text', (column) => column.notNull())
    .addColumn('template_id', 'text', (column) => column.notNull())
    .addColumn('spawn_count', 'bigint', (column) => column.notNull())
    .addColumn('last_spawned_at_ms', 'bigint', (column) => column.notNull())
    .addPrimaryKeyConstraint('template_usage_of_teams_pk', ['team_id', 'template_id'])
    .execute();
  const usage = await db.selectFrom('template_usage').selectAll().execute();
  for (const row of usage)
    await db
      .insertInto('template_usage_of_teams')
      .values({ ...row, team_id: teamId })
      .execute();
  await schema.dropTable('template_usage').execute();
  await schema.alterTable('template_usage_of_teams').renameTo('template_usage').execute();

  await schema
    .createTable('team_usage')
    .addColumn('team_id', 'text', (column) => column.notNull())
    .addColumn('period_start_ms', 'bigint', (column) => column.notNull())
    .addColumn('peak_running', 'integer', (column) => column.notNull())
    .addColumn('starts', 'integer', (column) => column.notNull())
    .addPrimaryKeyConstraint('team_usage_pk', ['team_id', 'period_start_ms'])
    .execute();
}
