import { resolvePaths } from '@nestbox/kit';
import type { Command } from 'commander';
import { AdminApi } from '../client/admin-api.ts';
import { InterruptGuard } from '../interruption.ts';

export function addKeyRename(key: Command): void {
  key
    .command('rename')
    .description('give an API key another name')
    .argument('<id>', "the key's id, as `nestbox key list` shows it")
    .argument('<name>', 'its name from now on')
    .option('--team <team>', 'id or name of the team (default: the first one)')
    .option('--json', 'print JSON')
    .action(async (id: string, name: string, options: { team?: string; json?: boolean }) => {
      using guard = new InterruptGuard();
      const api = await AdminApi.open(process.env, resolvePaths());
      const team = await api.findTeam(options.team, guard.signal);
      await api.renameKey(team.teamID, id, name, guard.signal);
      console.log(options.json ? JSON.stringify({ renamed: id, name }) : id);
    });
}
