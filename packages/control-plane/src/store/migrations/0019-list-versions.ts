import type { Kysely } from 'kysely';

/** The order of a team's list with all that names a row as it is, so that a page of known rows is read off the index alone. */
export async function up({ schema }: Kysely<unknown>): Promise<void> {
  await schema
    .createIndex('sandboxes_by_team_with_version')
    .on('sandboxes')
    .columns(['team_id', 'started_at_ms', 'id', 'state', 'revision', 'end_at_ms'])
    .execute();
  await schema.dropIndex('sandboxes_by_team_and_start').execute();
}
