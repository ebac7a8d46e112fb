import { resolvePaths } from '@nestbox/kit';
import type { Command } from 'commander';
import { AdminApi } from '../client/admin-api.ts';
import { InterruptGuard } from '../interruption.ts';
import { addLimitOptions, limitsOf, type TeamLimitOptions } from '../team-limit-options.ts';

export function addTeamCreate(team: Command): void {
  addLimitOptions(
    team
      .command('create')
      .description('make a team, whose sandboxes and snapshots no other team sees')
      .argument('<name>', 'its name'),
  )
    .option('--json', 'print JSON')
    .action(async (name: string, options: TeamLimitOptions & { json?: boolean }) => {
      using guard = new InterruptGuard();
      const api = await AdminApi.open(process.env, resolvePaths());
      const created = await api.createTeam(name, limitsOf(options), guard.signal);
      console.log(options.json ? JSON.stringify(created) : created.teamID);
    });
}
