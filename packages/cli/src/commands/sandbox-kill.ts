import { resolvePaths } from '@nestbox/kit';
import type { Command } from 'commander';
import { ControlApi } from '../client/control-api.ts';
import { requireServer } from '../client/endpoints.ts';
import { InterruptGuard } from '../interruption.ts';

export function addSandboxKill(sandbox: Command): void {
  sandbox
    .command('kill')
    .description('end sandboxes now')
    .argument('<id...>', 'sandbox ids')
    .option('--json', 'print JSON')
    .action(async (sandboxIds: string[], options: { json?: boolean }) => {
      using guard = new InterruptGuard();
      const api = new ControlApi(await requireServer(process.env, resolvePaths()));
      const outcomes = await Promise.allSettled(sandboxIds.map((id) => api.killSandbox(id, guard.signal)));
      const killed = sandboxIds.filter((_, index) => outcomes[index]?.status === 'fulfilled');
      if (options.json) console.log(JSON.stringify({ killed }));
      else for (const id of killed) console.log(id);
      const failed = outcomes.find((outcome) => outcome.status === 'rejected');
      if (failed !== undefined) throw failed.reason;
    });
}
