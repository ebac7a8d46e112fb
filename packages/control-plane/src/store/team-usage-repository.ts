import type { Kysely } from 'kysely';
import { ACTIVE_STATES } from './sandbox-state.ts';
import type { Database } from './schema.ts';
import type { OneTeam } from './team-scope.ts';

type Db = Kysely<Database>;

/** What a row of `team_usage` is about. */
export const USAGE_PERIOD_MS = 60_000;

export interface TeamUse {
  readonly running: number;
  readonly vcpus: number;
  readonly memoryMib: number;
  /** When the first of the running ones ends, is paused, or is looked at again; undefined when none runs. */
  readonly nextEndAtMs: number | undefined;
}

/** What a team's sandboxes take now, those that are about to run included. */
export async function measureTeamUse(db: Db, { teamId }: OneTeam): Promise<TeamUse> {
  const row = await db
    .selectFrom('sandboxes')
    .select((eb) => [
      eb.fn.countAll().as('running'),
      eb.fn.sum('vcpu_count').as('vcpus'),
      eb.fn.sum('memory_mib').as('memory'),
      eb.fn.min('end_at_ms').as('next_end'),
    ])
    .where('team_id', '=', teamId)
    .where('state', 'in', ACTIVE_STATES)
    .executeTakeFirstOrThrow();
  return {
    running: Number(row.running),
    vcpus: Number(row.vcpus ?? 0),
    memoryMib: Number(row.memory ?? 0),
    nextEndAtMs: row.next_end === null ? undefined : Number(row.next_end),
  };
}

/**
 * Keeps anybody else from measuring and adding for this team until the transaction ends, and returns its row; undefined
 * when there is no such team.
 */
export async function lockTeam(trx: Db, { teamId }: OneTeam) {
  return await trx
    .updateTable('teams')
    .set((eb) => ({ name: eb.ref('name') }))
    .where('id', '=', teamId)
    .returningAll()
    .executeTakeFirst();
}

export async function setCreatesUsedUntil(trx: Db, { teamId }: OneTeam, untilMs: number): Promise<void> {
  await trx.updateTable('teams').set({ creates_used_until_ms: untilMs }).where('id', '=', teamId).execute();
}

/** Adds to what the team did in the period of `atMs`. */
export async function noteTeamUse(
  db: Db,
  { teamId }: OneTeam,
  atMs: number,
  { running, starts }: { readonly running: number; readonly starts: number },
): Promise<void> {
  await db
    .insertInto('team_usage')
    .values({ team_id: teamId, period_start_ms: atMs - (atMs % USAGE_PERIOD_MS), peak_running: running, starts })
    .onConflict((conflict) =>
      conflict.columns(['team_id', 'period_start_ms']).doUpdateSet((eb) => ({
        starts: eb('team_usage.starts', '+', starts),
        peak_running: eb
          .case()
          .when('team_usage.peak_running', '<', running)
          .then(eb.ref('excluded.peak_running'))
          .else(eb.ref('team_usage.peak_running'))
          .end(),
      })),
    )
    .execute();
}

export interface UsagePeriod {
  readonly startMs: number;
  readonly peakRunning: number;
  readonly starts: number;
}

/** Periods that begin within the bounds, both inclusive, oldest first; those without anything are missing. */
export async function listTeamUsage(
  db: Db,
  { teamId }: OneTeam,
  { fromMs, toMs }: { readonly fromMs: number; readonly toMs: number },
): Promise<UsagePeriod[]> {
  const rows = await db
    .selectFrom('team_usage')
    .selectAll()
    .where('team_id', '=', teamId)
    .where('period_start_ms', '>=', fromMs)
    .where('period_start_ms', '<=', toMs)
    .orderBy('period_start_ms')
    .execute();
  return rows.map((row) => ({ startMs: row.period_start_ms, peakRunning: row.peak_running, starts: row.starts }));
}

export async function dropTeamUsageBefore(db: Db, beforeMs: number): Promise<void> {
  await db.deleteFrom('team_usage').where('period_start_ms', '<', beforeMs).execute();
}
