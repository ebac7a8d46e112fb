import type { Kysely } from 'kysely';

/** Who looks after which host, and which servers live: store/lease-repository.ts. */
export async function up({ schema }: Kysely<unknown>): Promise<void> {
  await schema
    .createTable('leases')
    .addColumn('name', 'text', (column) => column.primaryKey())
    .addColumn('holder', 'text', (column) => column.notNull())
    .addColumn('token', 'bigint', (column) => column.notNull())
    .addColumn('expires_at_ms', 'bigint', (column) => column.notNull())
    .addColumn('reaches', 'integer', (column) => column.notNull())
    .execute();
}
