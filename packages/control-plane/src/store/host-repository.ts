import type { Kysely } from 'kysely';
import type { Database } from './schema.ts';

/** Makes what was of hosts with the former ids the host's: its sandboxes, and where ended ones were. */
export async function renameHost(db: Kysely<Database>, formerIds: readonly string[], hostId: string): Promise<void> {
  if (formerIds.length === 0) return;
  await db.transaction().execute(async (trx) => {
    for (const table of ['sandboxes', 'ended_sandboxes'] as const)
      await trx.updateTable(table).set({ host_id: hostId }).where('host_id', 'in', formerIds).execute();
  });
}
