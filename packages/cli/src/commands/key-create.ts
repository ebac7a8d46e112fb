import { resolvePaths } from '@nestbox/kit';
import type { Command } from 'commander';
import { AdminApi } from '../client/admin-api.ts';
import { InterruptGuard } from '../interruption.ts';
import { wholeNumber } from '../option-values.ts';

interface KeyCreateOptions {
  readonly team?: string;
  readonly days?: number;
  readonly json?: boolean;
}

const DAY_MS = 86_400_000;
const MAX_DAYS = 36_500;

export function addKeyCreate(key: Command): void {
  key
    .command('create')
    .description('make an API key for a team; it is shown this once')
    .argument('<name>', 'what to know it by')
    .option('--team <team>', 'id or name of the team (default: the first one)')
    .option('--days <n>', 'how long it is valid (default: until it is revoked)', wholeNumber(1, MAX_DAYS))
    .option('--json', 'print JSON')
    .action(async (name: string, options: KeyCreateOptions) => {
      using guard = new InterruptGuard();
      const api = await AdminApi.open(process.env, resolvePaths());
      const team = await api.findTeam(options.team, guard.signal);
      const expiresAt = options.days === undefined ? undefined : new Date(Date.now() + options.days * DAY_MS);
      const created = await api.createKey(team.teamID, { name, expiresAt }, guard.signal);
      console.log(options.json ? JSON.stringify({ ...created, teamID: team.teamID }) : created.key);
    });
}
