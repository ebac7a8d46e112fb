import type { AuditEntryView } from '@nestbox/contract/http';
import { resolvePaths } from '@nestbox/kit';
import { type Command, Option } from 'commander';
import { AdminApi } from '../client/admin-api.ts';
import { InterruptGuard } from '../interruption.ts';
import { parseMoment, wholeNumber } from '../option-values.ts';
import { formatTable } from '../terminal/table.ts';

const MOST_ENTRIES = 100_000;

interface AuditOptions {
  readonly lines: number;
  readonly team?: string;
  readonly since?: Date;
  readonly until?: Date;
  readonly operation?: string;
  readonly target?: string;
  readonly actor?: string;
  readonly json?: boolean;
}

export function addAudit(program: Command): void {
  program
    .command('audit')
    .description('show who changed what: sandboxes, snapshots, keys, teams, nodes, and refused attempts to get in')
    .option('-n, --lines <n>', 'how many entries, the newest ones', wholeNumber(1, MOST_ENTRIES), 100)
    .option('--team <team>', 'only what concerns this team (id or name)')
    .option('--since <time>', 'only what came later: 30m, 12h, 7d, or a time like 2026-01-31T12:00:00Z', parseMoment)
    .option('--until <time>', 'only what came earlier', parseMoment)
    .option('--operation <name>', 'only these, such as sandbox.kill, or key for all that begin with it')
    .option('--target <id>', 'only what was done to this sandbox, snapshot, key, team or node')
    .addOption(
      new Option('--actor <kind>', 'only what was done by these; system is the server by itself').choices([
        'key',
        'admin',
        'system',
        'unknown',
      ]),
    )
    .option('--json', 'print JSON, a line each')
    .action(async (options: AuditOptions) => {
      using guard = new InterruptGuard();
      const api = await AdminApi.open(process.env, resolvePaths());
      const teams = await api.listTeams(guard.signal);
      const teamId = options.team && (await api.findTeam(options.team, guard.signal)).teamID;
      const found = await api.listAudit({ ...options, teamId, limit: options.lines }, guard.signal);
      const entries = found.reverse();
      const names = new Map(teams.map(({ teamID, name }) => [teamID, name]));
      if (options.json) for (const entry of entries) console.log(JSON.stringify(entry));
      else console.log(auditTable(entries, names));
    });
}

function auditTable(entries: readonly AuditEntryView[], teamNames: ReadonlyMap<string, string>): string {
  return formatTable(
    ['TIME', 'TEAM', 'WHO', 'FROM', 'OPERATION', 'TARGETS', 'RESULT'],
    entries.map(({ at, teamID, actor, address, operation, targets, status, errorCode, count, reason }) => [
      at,
      teamID === null ? '-' : (teamNames.get(teamID) ?? teamID),
      actor.kind === 'key' ? actor.name : actor.kind,
      address ?? '-',
      operation,
      targets.join(' ') || '-',
      [status, errorCode, reason, count > 1 ? `× ${count}` : null].filter((part) => part !== null).join(' '),
    ]),
  );
}
