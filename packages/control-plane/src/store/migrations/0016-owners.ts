import type { Kysely } from 'kysely';

/** Which server works on a sandbox, and how often its state has changed. What is under way without an owner is nobody's. */
export async function up({ schema }: Kysely<unknown>): Promise<void> {
  await schema.alterTable('sandboxes').addColumn('owner', 'text').execute();
  await schema
    .alterTable('sandboxes')
    .addColumn('revision', 'bigint', (column) => column.notNull().defaultTo(0))
    .execute();
}
