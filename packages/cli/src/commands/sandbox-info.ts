import { resolvePaths } from '@nestbox/kit';
import type { Command } from 'commander';
import { ControlApi } from '../client/control-api.ts';
import { requireServer } from '../client/endpoints.ts';
import { InterruptGuard } from '../interruption.ts';
import { formatTable } from '../terminal/table.ts';

export function addSandboxInfo(sandbox: Command): void {
  sandbox
    .command('info')
    .description('show all that is known of a sandbox')
    .argument('<id>', 'sandbox id')
    .option('--json', 'print JSON')
    .action(async (sandboxId: string, options: { json?: boolean }) => {
      using guard = new InterruptGuard();
      const api = new ControlApi(await requireServer(process.env, resolvePaths()));
      const { envdAccessToken: _secret, ...detail } = await api.getSandbox(sandboxId, guard.signal);
      if (options.json) console.log(JSON.stringify(detail));
      else
        console.log(
          formatTable(
            ['FIELD', 'VALUE'],
            Object.entries(detail).map(([name, value]) => [
              name,
              typeof value === 'object' ? JSON.stringify(value) : String(value),
            ]),
          ),
        );
    });
}
