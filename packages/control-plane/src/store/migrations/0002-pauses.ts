import type { Kysely } from 'kysely';

/**
 * What a sandbox needs to be paused and resumed. Rows that are there get what they were created with: they end at their
 * time-out. SQLite adds one column a statement.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  const add = (name: string, byDefault: number) =>
    db.schema
      .alterTable('sandboxes')
      .addColumn(name, 'integer', (column) => column.notNull().defaultTo(byDefault))
      .execute();
  await add('auto_pause', 0);
  await add('auto_pause_memory', 1);
  await add('auto_resume', 0);
  await add('timeout_sec', 300);
  await db.schema.alterTable('sandboxes').addColumn('paused_memory', 'integer').execute();
}
