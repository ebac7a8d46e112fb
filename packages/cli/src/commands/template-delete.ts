import { NestboxError } from '@nestbox/contract';
import { resolvePaths } from '@nestbox/kit';
import type { Command } from 'commander';
import { ControlApi } from '../client/control-api.ts';
import { requireServer } from '../client/endpoints.ts';
import { InterruptGuard } from '../interruption.ts';

export function addTemplateDelete(template: Command): void {
  template
    .command('delete')
    .description('delete templates that are damaged; set-up makes them again')
    .argument('<id...>', 'template ids or names')
    .option('--json', 'print JSON')
    .action(async (words: string[], options: { json?: boolean }) => {
      using guard = new InterruptGuard();
      const api = new ControlApi(await requireServer(process.env, resolvePaths()));
      const templates = await api.listTemplates(guard.signal);
      // All words are looked up first: one that is wrong leaves everything as it is. A snapshot's is one of those.
      const ids = words.map((word) => {
        const found = templates.find(({ templateID, names }) => templateID === word || names.includes(word));
        if (found !== undefined) return found.templateID;
        throw new NestboxError(
          'template_not_found',
          `There is no template ${JSON.stringify(word)}. See: nestbox template list`,
        );
      });
      const deleted: string[] = [];
      for (const id of new Set(ids)) {
        await api.deleteTemplate(id, guard.signal);
        deleted.push(id);
        if (!options.json) console.log(id);
      }
      if (options.json) console.log(JSON.stringify({ deleted }));
    });
}
