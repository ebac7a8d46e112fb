import { resolvePaths } from '@nestbox/kit';
import type { Command } from 'commander';
import { AdminApi } from '../client/admin-api.ts';
import { InterruptGuard } from '../interruption.ts';
import { nodeFacts } from '../terminal/node-facts.ts';
import { formatTable } from '../terminal/table.ts';

export function addNodeInfo(node: Command): void {
  node
    .command('info')
    .description(
      'show all that a host tells of itself: its machine, what is used of it, which VM manager runs there and why',
    )
    .argument('<id>', 'node id')
    .option('--json', 'print JSON')
    .action(async (id: string, options: { json?: boolean }) => {
      using guard = new InterruptGuard();
      const api = await AdminApi.open(process.env, resolvePaths());
      const found = await api.getNode(id, guard.signal);
      console.log(options.json ? JSON.stringify(found) : formatTable(['FIELD', 'VALUE'], nodeFacts(found)));
    });
}
