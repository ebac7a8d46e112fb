import { randomUUID } from 'node:crypto';
import { NestboxError } from '@nestbox/contract';
import type { SandboxState } from '../store/sandbox-state.ts';
import { listSnapshotOwners } from '../store/snapshot-owner-repository.ts';
import {
  deleteTeam as dropTeam,
  findTeam,
  findTeamByName,
  insertTeam,
  type TeamLimits,
  type TeamRecord,
  updateTeam as writeTeam,
} from '../store/team-repository.ts';
import { hostsAway } from './hosts-away.ts';
import type { ServiceContext } from './service-context.ts';
import { forTeam } from './team-context.ts';
import { isSnapshot, readCatalog } from './template-catalog.ts';

export function teamNotFound(teamId: string): NestboxError {
  return new NestboxError('team_not_found', `There is no team ${JSON.stringify(teamId.slice(0, 40))}.`);
}

/** Throws `team_not_found`. */
export async function requireTeam(context: ServiceContext, teamId: string): Promise<TeamRecord> {
  const team = await findTeam(context.db, teamId);
  if (team === undefined) throw teamNotFound(teamId);
  return team;
}

/** Throws `conflict` when another team has the name. */
export async function createTeam(context: ServiceContext, name: string, limits: TeamLimits): Promise<TeamRecord> {
  const team = { id: randomUUID(), name, isDefault: false, createdAtMs: context.clock.now(), limits };
  if (!(await insertTeam(context.db, team))) throw nameTaken(name);
  context.logger.info({ teamId: team.id, name }, 'A team was made');
  return team;
}

/** What is undefined stays as it was. Throws `team_not_found`, and `conflict` when another team has the name. */
export async function updateTeam(
  context: ServiceContext,
  teamId: string,
  { name, limits }: { readonly name?: string | undefined; readonly limits?: Partial<TeamLimits> | undefined },
): Promise<TeamRecord> {
  return await context.db.transaction().execute(async (trx) => {
    const team = await findTeam(trx, teamId);
    if (team === undefined) throw teamNotFound(teamId);
    const holder = name === undefined ? undefined : await findTeamByName(trx, name);
    if (name !== undefined && holder !== undefined && holder.id !== teamId) throw nameTaken(name);
    const changed = await writeTeam(trx, teamId, {
      name,
      limits: limits === undefined ? undefined : { ...team.limits, ...limits },
    });
    if (changed === undefined) throw teamNotFound(teamId);
    return changed;
  });
}

const EVERY_STATE: readonly SandboxState[] = ['starting', 'running', 'pausing', 'paused', 'resuming', 'stopping'];

/**
 * With its keys. Throws `team_not_found`, `conflict` for the default team and while it has sandboxes or snapshots, and
 * `host_unavailable` when nobody can say whether it has.
 */
export async function deleteTeam(context: ServiceContext, teamId: string): Promise<void> {
  const team = await requireTeam(context, teamId);
  if (team.isDefault) throw new NestboxError('conflict', 'The default team cannot be deleted.');
  const count = await context.lists.count({ scope: { teamId }, metadata: {}, states: EVERY_STATE });
  if (count > 0) throw new NestboxError('conflict', `The team "${team.name}" has ${count} sandboxes: end them first.`);
  const snapshots = await countSnapshots(context, teamId);
  if (snapshots > 0)
    throw new NestboxError('conflict', `The team "${team.name}" has ${snapshots} snapshots: delete them first.`);
  await dropTeam(context.db, teamId);
  context.keys.forget();
  context.logger.info({ teamId, name: team.name }, 'A team was deleted');
}

/** Nobody would see them any more, and they would take their space for ever. */
async function countSnapshots(context: ServiceContext, teamId: string): Promise<number> {
  const owners = await listSnapshotOwners(context.db);
  if (![...owners.values()].includes(teamId)) return 0;
  const [away] = await hostsAway(context);
  if (away !== undefined)
    throw new NestboxError(
      'host_unavailable',
      `The host ${away} may have snapshots of the team, and cannot be reached.`,
    );
  const catalog = await readCatalog(forTeam(context, teamId));
  return [...catalog.values()].filter((entry) => isSnapshot(entry)).length;
}

function nameTaken(name: string): NestboxError {
  return new NestboxError('conflict', `There is a team ${JSON.stringify(name)} already.`);
}
