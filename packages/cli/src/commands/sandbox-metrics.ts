import { resolvePaths } from '@nestbox/kit';
import type { Command } from 'commander';
import { ControlApi } from '../client/control-api.ts';
import { requireServer } from '../client/endpoints.ts';
import { InterruptGuard } from '../interruption.ts';
import { wholeNumber } from '../option-values.ts';
import { formatBytes } from '../terminal/format-bytes.ts';
import { formatTable } from '../terminal/table.ts';

const A_WEEK_MINUTES = 7 * 24 * 60;

export function addSandboxMetrics(sandbox: Command): void {
  sandbox
    .command('metrics')
    .description('show what a sandbox used of its processors, memory and disk')
    .argument('<id>', 'sandbox id; also of one that ended not long ago')
    .option('--minutes <n>', 'of the last so many minutes', wholeNumber(1, A_WEEK_MINUTES), 10)
    .option('--json', 'print JSON')
    .action(async (sandboxId: string, options: { minutes: number; json?: boolean }) => {
      using guard = new InterruptGuard();
      const api = new ControlApi(await requireServer(process.env, resolvePaths()));
      const start = Math.floor(Date.now() / 1000) - options.minutes * 60;
      const metrics = await api.getMetrics(sandboxId, { start }, guard.signal);
      if (options.json) console.log(JSON.stringify({ metrics }));
      else if (metrics.length === 0) console.log(`There are no samples of ${sandboxId} in that time.`);
      else {
        const rows = metrics.map((sample) => [
          sample.timestamp,
          `${sample.cpuUsedPct.toFixed(1)} % of ${sample.cpuCount}`,
          `${formatBytes(sample.memUsed)} of ${formatBytes(sample.memTotal)}`,
          `${formatBytes(sample.diskUsed)} of ${formatBytes(sample.diskTotal)}`,
        ]);
        console.log(formatTable(['TIME', 'CPU', 'MEMORY', 'DISK'], rows));
      }
    });
}
