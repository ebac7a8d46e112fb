import { resolvePaths } from '@nestbox/kit';
import type { Command } from 'commander';
import { ControlApi } from '../client/control-api.ts';
import { requireServer } from '../client/endpoints.ts';
import { InterruptGuard } from '../interruption.ts';
import { formatDiskUsage } from '../terminal/disk-report.ts';

export function addDisk(program: Command): void {
  program
    .command('disk')
    .description('show what uses how much of the disk, the largest first')
    .option('--json', 'print JSON')
    .action(async (options: { json?: boolean }) => {
      using guard = new InterruptGuard();
      const api = new ControlApi(await requireServer(process.env, resolvePaths()));
      const hosts = await api.getDiskUsage(guard.signal);
      if (options.json) console.log(JSON.stringify({ hosts }));
      else if (hosts.length === 0) console.log('No host.');
      else {
        const reports = hosts.map((host) =>
          hosts.length === 1 ? formatDiskUsage(host) : `Host ${host.hostId}\n${formatDiskUsage(host)}`,
        );
        console.log(reports.join('\n\n'));
      }
    });
}
