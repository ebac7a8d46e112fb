import type { Kysely } from 'kysely';

/** Why the server did something by itself; null for what somebody asked for. */
export async function up({ schema }: Kysely<unknown>): Promise<void> {
  await schema.alterTable('audit_entries').addColumn('reason', 'text').execute();
}
