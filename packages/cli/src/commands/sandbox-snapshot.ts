import { resolvePaths } from '@nestbox/kit';
import type { Command } from 'commander';
import { ControlApi } from '../client/control-api.ts';
import { requireServer } from '../client/endpoints.ts';
import { InterruptGuard } from '../interruption.ts';

export function addSandboxSnapshot(sandbox: Command): void {
  sandbox
    .command('snapshot')
    .description('keep a sandbox as it is now, to make new ones from; prints the id for sandbox create --template')
    .argument('<id>', 'sandbox id')
    .option('--name <name>', 'name to find it by')
    .option('--json', 'print JSON')
    .action(async (sandboxId: string, options: { name?: string; json?: boolean }) => {
      using guard = new InterruptGuard();
      const api = new ControlApi(await requireServer(process.env, resolvePaths()));
      const snapshot = await api.snapshotSandbox(sandboxId, options.name, guard.signal);
      console.log(options.json ? JSON.stringify(snapshot) : snapshot.snapshotID);
    });
}
