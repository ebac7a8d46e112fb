import { resolvePaths } from '@nestbox/kit';
import type { Command } from 'commander';
import { ControlApi } from '../client/control-api.ts';
import { requireServer } from '../client/endpoints.ts';
import { InterruptGuard } from '../interruption.ts';
import { wholeNumber } from '../option-values.ts';
import { formatOperation } from '../terminal/operation-report.ts';

/** Where there is no terminal to ask. */
const DEFAULT_COLUMNS = 80;
const MOST_OPERATIONS = 1000;

export function addTrace(program: Command): void {
  program
    .command('trace')
    .description("show where the time of a sandbox's create, pause, resume, fork and snapshot went")
    .argument('<id>', 'sandbox id')
    .option('--last <n>', 'how many operations, the newest first', wholeNumber(1, MOST_OPERATIONS), 3)
    .option('--json', 'print JSON')
    .action(async (sandboxId: string, options: { last: number; json?: boolean }) => {
      using guard = new InterruptGuard();
      const api = new ControlApi(await requireServer(process.env, resolvePaths()));
      const all = await api.getTrace(sandboxId, guard.signal);
      const operations = all
        .toSorted((a, b) => Date.parse(b.startedAt) - Date.parse(a.startedAt))
        .slice(0, options.last);
      if (options.json) console.log(JSON.stringify({ operations }));
      else if (operations.length === 0) console.log(`No operation of ${sandboxId} is remembered.`);
      else {
        const columns = process.stdout.columns ?? DEFAULT_COLUMNS;
        console.log(operations.map((operation) => formatOperation(operation, columns)).join('\n\n'));
      }
    });
}
