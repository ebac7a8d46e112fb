import type { Kysely } from 'kysely';

/** `bigint` is 64 bits in both databases; SQLite would take `integer` as well, PostgreSQL's is 32 bits. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('sandboxes')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('state', 'text', (column) => column.notNull())
    .addColumn('host_id', 'text', (column) => column.notNull())
    .addColumn('template_id', 'text', (column) => column.notNull())
    .addColumn('alias', 'text')
    .addColumn('metadata', 'text')
    .addColumn('vcpu_count', 'integer', (column) => column.notNull())
    .addColumn('memory_mib', 'integer', (column) => column.notNull())
    .addColumn('disk_mib', 'integer', (column) => column.notNull())
    .addColumn('envd_version', 'text', (column) => column.notNull())
    .addColumn('created_at_ms', 'bigint', (column) => column.notNull())
    .addColumn('started_at_ms', 'bigint', (column) => column.notNull())
    .addColumn('end_at_ms', 'bigint', (column) => column.notNull())
    .addColumn('secure', 'integer', (column) => column.notNull())
    .addColumn('allow_internet_access', 'integer')
    .addColumn('allow_public_traffic', 'integer', (column) => column.notNull())
    .addColumn('network', 'text')
    .execute();
  await db.schema.createIndex('sandboxes_by_start').on('sandboxes').columns(['state', 'started_at_ms', 'id']).execute();
  await db.schema.createIndex('sandboxes_by_end').on('sandboxes').columns(['state', 'end_at_ms']).execute();
  await db.schema.createIndex('sandboxes_by_host').on('sandboxes').column('host_id').execute();

  await db.schema
    .createTable('sandbox_metadata')
    .addColumn('sandbox_id', 'text', (column) => column.notNull().references('sandboxes.id').onDelete('cascade'))
    .addColumn('key', 'text', (column) => column.notNull())
    .addColumn('value', 'text', (column) => column.notNull())
    .addPrimaryKeyConstraint('sandbox_metadata_pk', ['sandbox_id', 'key'])
    .execute();

  await db.schema
    .createTable('template_usage')
    .addColumn('template_id', 'text', (column) => column.primaryKey())
    .addColumn('spawn_count', 'bigint', (column) => column.notNull())
    .addColumn('last_spawned_at_ms', 'bigint', (column) => column.notNull())
    .execute();

  await db.schema
    .createTable('api_keys')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('name', 'text', (column) => column.notNull())
    .addColumn('key_hash', 'text', (column) => column.notNull().unique())
    .addColumn('created_at_ms', 'bigint', (column) => column.notNull())
    .execute();
}
