import { resolvePaths } from '@nestbox/kit';
import type { Command } from 'commander';
import { AdminApi } from '../client/admin-api.ts';
import { InterruptGuard } from '../interruption.ts';

export function addTeamRename(team: Command): void {
  team
    .command('rename')
    .description('give a team another name; its id stays')
    .argument('<team>', 'its id or name')
    .argument('<name>', 'its name from now on')
    .option('--json', 'print JSON')
    .action(async (word: string, name: string, options: { json?: boolean }) => {
      using guard = new InterruptGuard();
      const api = await AdminApi.open(process.env, resolvePaths());
      const { teamID } = await api.findTeam(word, guard.signal);
      const renamed = await api.renameTeam(teamID, name, guard.signal);
      console.log(options.json ? JSON.stringify(renamed) : renamed.teamID);
    });
}
