import { NestboxError } from '@nestbox/contract';
import type { Kysely } from 'kysely';
import type { SandboxRecord } from '../store/sandbox-record.ts';
import type { Database } from '../store/schema.ts';
import {
  lockTeam,
  measureTeamUse,
  noteTeamUse,
  setCreatesUsedUntil,
  type TeamUse,
} from '../store/team-usage-repository.ts';
import { teamNotFound } from './manage-teams.ts';
import type { TeamContext } from './team-context.ts';

/** The time in which a team may create as many as its rate says, at once or one by one. */
const RATE_WINDOW_MS = 60_000;
/** Longest that a client is told to wait for a place: somebody may end a sandbox at any time. */
const MAX_PLACE_WAIT_MS = 60_000;
const MIN_WAIT_MS = 1000;

/** What somebody wants to run in addition. */
export interface Demand {
  readonly sandboxes: number;
  readonly vcpus: number;
  readonly memoryMib: number;
  /** False for what is resumed: it counts for no rate. */
  readonly isNew: boolean;
}

export function demandOf(records: readonly Pick<SandboxRecord, 'vcpuCount' | 'memoryMib'>[]): Demand {
  return {
    sandboxes: records.length,
    vcpus: records.reduce((sum, { vcpuCount }) => sum + vcpuCount, 0),
    memoryMib: records.reduce((sum, { memoryMib }) => sum + memoryMib, 0),
    isNew: true,
  };
}

/**
 * Runs `record`, which writes what is wanted, if the team's limits allow it, and counts it. The team's row is locked over
 * both, so that of two at once the second sees the first. Throws `team_limit` when there is no place, `rate_limited` when
 * the team creates too fast, `team_not_found`; nothing has changed then.
 */
export async function withinLimits<T>(
  { db, scope, clock }: TeamContext,
  demand: Demand,
  record: (trx: Kysely<Database>) => Promise<T>,
): Promise<T> {
  return await db.transaction().execute(async (trx) => {
    const team = await lockTeam(trx, scope);
    if (team === undefined) throw teamNotFound(scope.teamId);
    const nowMs = clock.now();
    const use = await measureTeamUse(trx, scope);
    const limits: readonly (readonly [string, number | null, number, number])[] = [
      ['running sandboxes', team.max_running, use.running, demand.sandboxes],
      ['vCPUs', team.max_vcpus, use.vcpus, demand.vcpus],
      ['MiB of memory', team.max_memory_mib, use.memoryMib, demand.memoryMib],
    ];
    for (const [what, limit, used, wanted] of limits)
      if (limit !== null && used + wanted > limit) throw limitReached(what, limit, used, wanted, use, nowMs);
    if (demand.isNew && team.max_creates_per_minute !== null) {
      const untilMs = usedUntil(team.max_creates_per_minute, team.creates_used_until_ms, demand.sandboxes, nowMs);
      await setCreatesUsedUntil(trx, scope, untilMs);
    }
    const result = await record(trx);
    const running = use.running + demand.sandboxes;
    await noteTeamUse(trx, scope, nowMs, { running, starts: demand.isNew ? demand.sandboxes : 0 });
    return result;
  });
}

/**
 * Until when `count` more use the rate up. Each takes its part of the window, and the parts that lie ahead must fit into
 * one window (the generic cell rate algorithm, ITU-T I.371: one number is all that is to be kept). Throws `rate_limited`.
 */
export function usedUntil(perMinute: number, usedUntilMs: number, count: number, nowMs: number): number {
  const partMs = Math.floor(RATE_WINDOW_MS / perMinute);
  // A clock that was set back must not close a team out for longer than a window.
  const fromMs = Math.min(Math.max(usedUntilMs, nowMs), nowMs + RATE_WINDOW_MS);
  const untilMs = fromMs + count * partMs;
  const waitMs = untilMs - nowMs - RATE_WINDOW_MS;
  if (waitMs <= 0) return untilMs;
  const limit = `The team may create ${perMinute} sandboxes a minute`;
  if (count > perMinute) throw new NestboxError('rate_limited', `${limit}, so never ${count} at once.`);
  throw new NestboxError('rate_limited', `${limit}. Try again in ${Math.ceil(waitMs / 1000)} s.`, {
    retryAfterMs: waitMs,
  });
}

function limitReached(
  what: string,
  limit: number,
  used: number,
  wanted: number,
  { nextEndAtMs }: TeamUse,
  nowMs: number,
): NestboxError {
  const may = `The team may have ${limit} ${what}`;
  if (wanted > limit)
    return new NestboxError('team_limit', `${may}, so never the ${wanted} that this takes. Ask for a higher limit.`);
  const retryAfterMs = Math.min(
    Math.max((nextEndAtMs ?? Number.POSITIVE_INFINITY) - nowMs, MIN_WAIT_MS),
    MAX_PLACE_WAIT_MS,
  );
  return new NestboxError(
    'team_limit',
    `${may}; it has ${used}, and this takes ${wanted} more. End or pause sandboxes, or ask for a higher limit.`,
    { retryAfterMs },
  );
}
