import type { Kysely } from 'kysely';
import { renameHostStatus } from './host-status-repository.ts';
import type { Database } from './schema.ts';

/** Makes what was of hosts with the former ids the host's: its sandboxes, where ended ones were, and what was said of it. */
export async function renameHost(db: Kysely<Database>, formerIds: readonly string[], hostId: string): Promise<void> {
  if (formerIds.length === 0) return;
  await db.transaction().execute(async (trx) => {
    for (const table of ['sandboxes', 'ended_sandboxes'] as const)
      await trx.updateTable(table).set({ host_id: hostId }).where('host_id', 'in', formerIds).execute();
    await renameHostStatus(trx, formerIds, hostId);
  });
}
