import { resolvePaths } from '@nestbox/kit';
import type { Command } from 'commander';
import { ControlApi } from '../client/control-api.ts';
import { requireServer } from '../client/endpoints.ts';
import { InterruptGuard } from '../interruption.ts';
import { formatTable } from '../terminal/table.ts';

export function addSandboxList(sandbox: Command): void {
  sandbox
    .command('list')
    .description('list the sandboxes, running and paused, newest first')
    .option('--json', 'print JSON')
    .action(async (options: { json?: boolean }) => {
      using guard = new InterruptGuard();
      const api = new ControlApi(await requireServer(process.env, resolvePaths()));
      const sandboxes = await api.listSandboxes(guard.signal);
      if (options.json) console.log(JSON.stringify(sandboxes));
      else if (sandboxes.length === 0) console.log('No sandboxes.');
      else
        console.log(
          formatTable(
            ['SANDBOX', 'TEMPLATE', 'STATE', 'STARTED', 'ENDS', 'VCPUS', 'MEMORY'],
            sandboxes.map((each) => [
              each.sandboxID,
              each.alias ?? each.templateID,
              each.state,
              each.startedAt,
              // The time-out of a paused one is over; the next begins when it is resumed.
              each.state === 'paused' ? '-' : each.endAt,
              String(each.cpuCount),
              `${each.memoryMB} MiB`,
            ]),
          ),
        );
    });
}
