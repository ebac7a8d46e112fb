import { resolvePaths } from '@nestbox/kit';
import type { Command } from 'commander';
import { AdminApi } from '../client/admin-api.ts';
import { InterruptGuard } from '../interruption.ts';
import { formatTable } from '../terminal/table.ts';

export function addKeyList(key: Command): void {
  key
    .command('list')
    .description("list a team's API keys")
    .option('--team <team>', 'id or name of the team (default: the first one)')
    .option('--json', 'print JSON')
    .action(async (options: { team?: string; json?: boolean }) => {
      using guard = new InterruptGuard();
      const api = await AdminApi.open(process.env, resolvePaths());
      const team = await api.findTeam(options.team, guard.signal);
      const keys = await api.listKeys(team.teamID, guard.signal);
      if (options.json) console.log(JSON.stringify(keys));
      else
        console.log(
          formatTable(
            ['ID', 'NAME', 'KEY', 'LAST USED', 'EXPIRES'],
            keys.map(({ id, name, mask, lastUsed, expiresAt }) => [
              id,
              name,
              `${mask.prefix}${mask.maskedValuePrefix}…${mask.maskedValueSuffix}`,
              lastUsed ?? '-',
              expiresAt ?? 'never',
            ]),
          ),
        );
    });
}
