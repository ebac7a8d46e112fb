import { resolvePaths } from '@nestbox/kit';
import type { Command } from 'commander';
import { AdminApi } from '../client/admin-api.ts';
import { InterruptGuard } from '../interruption.ts';
import { addLimitOptions, limitsOf, type TeamLimitOptions } from '../team-limit-options.ts';

export function addTeamLimit(team: Command): void {
  addLimitOptions(
    team
      .command('limit')
      .description('set limits of a team; those that are not named stay as they are')
      .argument('<team>', 'its id or name'),
  )
    .option('--json', 'print JSON')
    .action(async (word: string, options: TeamLimitOptions & { json?: boolean }) => {
      using guard = new InterruptGuard();
      const api = await AdminApi.open(process.env, resolvePaths());
      const { teamID } = await api.findTeam(word, guard.signal);
      const limited = await api.limitTeam(teamID, limitsOf(options), guard.signal);
      console.log(options.json ? JSON.stringify(limited) : limited.teamID);
    });
}
