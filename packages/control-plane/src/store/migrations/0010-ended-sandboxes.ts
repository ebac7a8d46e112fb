import type { Kysely } from 'kysely';

/** Where sandboxes were that have ended: their hosts keep logs and samples for a while. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('ended_sandboxes')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('host_id', 'text', (column) => column.notNull())
    .addColumn('ended_at_ms', 'bigint', (column) => column.notNull())
    .execute();
  await db.schema.createIndex('ended_sandboxes_by_end').on('ended_sandboxes').column('ended_at_ms').execute();
}
