import type { HostDiskUsage } from '@nestbox/contract/http';
import { resolvePaths } from '@nestbox/kit';
import type { Command } from 'commander';
import { AdminApi } from '../client/admin-api.ts';
import { ControlApi } from '../client/control-api.ts';
import { requireServer } from '../client/endpoints.ts';
import { verifyDisks } from '../client/verify-disks.ts';
import { EXIT } from '../exit-codes.ts';
import { InterruptGuard } from '../interruption.ts';
import type { SetExitCode } from '../program.ts';
import { formatDiskUsage } from '../terminal/disk-report.ts';

interface DiskOptions {
  readonly verify?: boolean;
  readonly json?: boolean;
}

export function addDisk(program: Command, setExitCode: SetExitCode): void {
  program
    .command('disk')
    .description('show what uses how much of the disk, the largest first')
    .option('--verify', 'first read all that rests there, and say what is damaged (with the admin token)')
    .option('--json', 'print JSON')
    .action(async (options: DiskOptions) => {
      using guard = new InterruptGuard();
      const hosts = await readHosts(options, guard.signal);
      if (options.json) console.log(JSON.stringify({ hosts }));
      else if (hosts.length === 0) console.log('No host.');
      else {
        const reports = hosts.map((host) =>
          hosts.length === 1 ? formatDiskUsage(host) : `Host ${host.hostId}\n${formatDiskUsage(host)}`,
        );
        console.log(reports.join('\n\n'));
      }
      const isDamaged = hosts.some(({ items }) => items.some(({ damage }) => damage !== undefined));
      if (options.verify && isDamaged) setExitCode(EXIT.failure);
    });
}

async function readHosts({ verify }: DiskOptions, signal: AbortSignal): Promise<HostDiskUsage[]> {
  const paths = resolvePaths();
  if (verify) return verifyDisks(await AdminApi.open(process.env, paths), signal);
  return new ControlApi(await requireServer(process.env, paths)).getDiskUsage(signal);
}
