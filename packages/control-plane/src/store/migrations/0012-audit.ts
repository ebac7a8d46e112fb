import type { Kysely } from 'kysely';

/** Who changed what. No foreign keys: what it tells of teams and keys outlives them. */
export async function up({ schema }: Kysely<unknown>): Promise<void> {
  await schema
    .createTable('audit_entries')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('at_ms', 'bigint', (column) => column.notNull())
    .addColumn('request_id', 'text')
    .addColumn('operation', 'text', (column) => column.notNull())
    .addColumn('targets', 'text', (column) => column.notNull())
    .addColumn('team_id', 'text')
    .addColumn('actor', 'text', (column) => column.notNull())
    .addColumn('key_id', 'text')
    .addColumn('key_name', 'text')
    .addColumn('address', 'text')
    .addColumn('status', 'integer', (column) => column.notNull())
    .addColumn('error_code', 'text')
    .addColumn('count', 'integer', (column) => column.notNull())
    .execute();
  await schema.createIndex('audit_entries_by_team').on('audit_entries').columns(['team_id', 'id']).execute();
  await schema.createIndex('audit_entries_by_time').on('audit_entries').column('at_ms').execute();
}
