import { resolvePaths } from '@nestbox/kit';
import type { Command } from 'commander';
import { ControlApi } from '../client/control-api.ts';
import { requireServer } from '../client/endpoints.ts';
import { findSnapshot } from '../client/find-snapshot.ts';
import { InterruptGuard } from '../interruption.ts';

export function addSnapshotDelete(snapshot: Command): void {
  snapshot
    .command('delete')
    .description('delete snapshots; sandboxes made from them go on')
    .argument('<id...>', 'snapshot ids or names')
    .option('--json', 'print JSON')
    .action(async (words: string[], options: { json?: boolean }) => {
      using guard = new InterruptGuard();
      const api = new ControlApi(await requireServer(process.env, resolvePaths()));
      const snapshots = await api.listSnapshots({}, guard.signal);
      // All words are looked up first: one that is wrong leaves everything as it is.
      const ids = [...new Set(words.map((word) => findSnapshot(snapshots, word).snapshotID))];
      const outcomes = await Promise.allSettled(ids.map((id) => api.deleteTemplate(id, guard.signal)));
      const deleted = ids.filter((_, index) => outcomes[index]?.status === 'fulfilled');
      if (options.json) console.log(JSON.stringify({ deleted }));
      else for (const id of deleted) console.log(id);
      const failed = outcomes.find((outcome) => outcome.status === 'rejected');
      if (failed !== undefined) throw failed.reason;
    });
}
