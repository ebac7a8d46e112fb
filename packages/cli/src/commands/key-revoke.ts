import { resolvePaths } from '@nestbox/kit';
import type { Command } from 'commander';
import { AdminApi } from '../client/admin-api.ts';
import { InterruptGuard } from '../interruption.ts';

export function addKeyRevoke(key: Command): void {
  key
    .command('revoke')
    .description('refuse an API key from now on; sandboxes made with it go on')
    .argument('<id>', "the key's id, as `nestbox key list` shows it")
    .option('--team <team>', 'id or name of the team (default: the first one)')
    .option('--json', 'print JSON')
    .action(async (id: string, options: { team?: string; json?: boolean }) => {
      using guard = new InterruptGuard();
      const api = await AdminApi.open(process.env, resolvePaths());
      const team = await api.findTeam(options.team, guard.signal);
      await api.revokeKey(team.teamID, id, guard.signal);
      console.log(options.json ? JSON.stringify({ revoked: id }) : id);
    });
}
