import type { Kysely } from 'kysely';

/** The installation's secrets, for further servers, sealed with the password of the database: service/join-installation.ts. */
export async function up({ schema }: Kysely<unknown>): Promise<void> {
  await schema.alterTable('installation').addColumn('sealed_secrets', 'text').execute();
}
