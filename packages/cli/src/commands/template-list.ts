import { resolvePaths } from '@nestbox/kit';
import type { Command } from 'commander';
import { ControlApi } from '../client/control-api.ts';
import { requireServer } from '../client/endpoints.ts';
import { InterruptGuard } from '../interruption.ts';
import { damageLines } from '../terminal/damage-lines.ts';
import { formatTable } from '../terminal/table.ts';

export function addTemplateList(template: Command): void {
  template
    .command('list')
    .description('list the templates that sandboxes can be made from')
    .option('--json', 'print JSON')
    .action(async (options: { json?: boolean }) => {
      using guard = new InterruptGuard();
      const api = new ControlApi(await requireServer(process.env, resolvePaths()));
      const templates = await api.listTemplates(guard.signal);
      if (options.json) console.log(JSON.stringify(templates));
      else
        console.log(
          formatTable(
            ['NAMES', 'TEMPLATE', 'VCPUS', 'MEMORY', 'DISK', 'MADE'],
            templates.map((each) => [
              each.names.length === 0 ? '-' : each.names.join(', '),
              each.templateID,
              String(each.cpuCount),
              `${each.memoryMB} MiB`,
              `${each.diskSizeMB} MiB`,
              each.createdAt,
            ]),
          ) + damageLines(templates.map(({ templateID, damage }) => [templateID, damage])),
        );
    });
}
