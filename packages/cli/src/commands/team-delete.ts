import { resolvePaths } from '@nestbox/kit';
import type { Command } from 'commander';
import { AdminApi } from '../client/admin-api.ts';
import { InterruptGuard } from '../interruption.ts';

export function addTeamDelete(team: Command): void {
  team
    .command('delete')
    .description('delete a team and its keys, once it has no sandboxes and no snapshots')
    .argument('<team>', 'its id or name')
    .option('--kill', 'end its sandboxes first, paused ones too')
    .option('--json', 'print JSON')
    .action(async (word: string, options: { kill?: boolean; json?: boolean }) => {
      using guard = new InterruptGuard();
      const api = await AdminApi.open(process.env, resolvePaths());
      const { teamID } = await api.findTeam(word, guard.signal);
      if (options.kill) await api.killSandboxes(teamID, guard.signal);
      await api.deleteTeam(teamID, guard.signal);
      console.log(options.json ? JSON.stringify({ deleted: teamID }) : teamID);
    });
}
