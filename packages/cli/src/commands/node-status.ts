import type { NodeStatus } from '@nestbox/contract/http';
import { resolvePaths } from '@nestbox/kit';
import type { Command } from 'commander';
import { AdminApi } from '../client/admin-api.ts';
import { InterruptGuard } from '../interruption.ts';

const STATUS_COMMANDS: readonly { readonly name: string; readonly status: NodeStatus; readonly what: string }[] = [
  { name: 'drain', status: 'draining', what: 'let a host take no new sandboxes from now on; what it has goes on' },
  { name: 'standby', status: 'standby', what: 'the same for a host that is kept in reserve' },
  { name: 'ready', status: 'ready', what: 'let a host take new sandboxes again' },
];

/** `drain`, `standby` and `ready`. */
export function addNodeStatus(node: Command): void {
  for (const { name, status, what } of STATUS_COMMANDS)
    node
      .command(name)
      .description(what)
      .argument('<id>', 'node id')
      .option('--json', 'print JSON')
      .action(async (id: string, options: { json?: boolean }) => {
        using guard = new InterruptGuard();
        const api = await AdminApi.open(process.env, resolvePaths());
        await api.setNodeStatus(id, status, guard.signal);
        console.log(options.json ? JSON.stringify({ id, status }) : id);
      });
}
