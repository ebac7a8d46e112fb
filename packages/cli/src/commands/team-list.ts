import { resolvePaths } from '@nestbox/kit';
import type { Command } from 'commander';
import { AdminApi } from '../client/admin-api.ts';
import { InterruptGuard } from '../interruption.ts';
import { describeLimits } from '../team-limit-options.ts';
import { formatTable } from '../terminal/table.ts';

export function addTeamList(team: Command): void {
  team
    .command('list')
    .description('list the teams and their limits')
    .option('--json', 'print JSON')
    .action(async (options: { json?: boolean }) => {
      using guard = new InterruptGuard();
      const api = await AdminApi.open(process.env, resolvePaths());
      const teams = await api.listTeams(guard.signal);
      console.log(
        options.json
          ? JSON.stringify(teams)
          : formatTable(
              ['ID', 'NAME', 'RUNNING', 'VCPUS', 'MEMORY MIB', 'CREATES/MIN'],
              teams.map(({ teamID, name, limits }) => [teamID, name, ...describeLimits(limits)]),
            ),
      );
    });
}
