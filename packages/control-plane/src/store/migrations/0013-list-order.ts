import type { Kysely } from 'kysely';

/** A team's sandboxes in the order of its list, so that a page is read off instead of sorted; with the state, which filters look at. */
export async function up({ schema }: Kysely<unknown>): Promise<void> {
  await schema
    .createIndex('sandboxes_by_team_and_start')
    .on('sandboxes')
    .columns(['team_id', 'started_at_ms', 'id', 'state'])
    .execute();
}
