import { resolvePaths } from '@nestbox/kit';
import type { Command } from 'commander';
import { ControlApi } from '../client/control-api.ts';
import { requireServer } from '../client/endpoints.ts';
import { InterruptGuard } from '../interruption.ts';
import { damageLines } from '../terminal/damage-lines.ts';
import { formatTable } from '../terminal/table.ts';

interface SnapshotListOptions {
  readonly sandbox?: string;
  readonly name?: string;
  readonly json?: boolean;
}

export function addSnapshotList(snapshot: Command): void {
  snapshot
    .command('list')
    .description('list the snapshots of sandboxes')
    .option('--sandbox <id>', 'only those of this sandbox')
    .option('--name <name>', 'only those of this name')
    .option('--json', 'print JSON')
    .action(async (options: SnapshotListOptions) => {
      using guard = new InterruptGuard();
      const api = new ControlApi(await requireServer(process.env, resolvePaths()));
      const snapshots = await api.listSnapshots({ sandboxId: options.sandbox, name: options.name }, guard.signal);
      if (options.json) console.log(JSON.stringify(snapshots));
      else if (snapshots.length === 0) console.log('No snapshots.');
      else
        console.log(
          formatTable(
            ['SNAPSHOT', 'NAMES'],
            snapshots.map(({ snapshotID, names }) => [snapshotID, names.length === 0 ? '-' : names.join(', ')]),
          ) + damageLines(snapshots.map(({ snapshotID, damage }) => [snapshotID, damage])),
        );
    });
}
