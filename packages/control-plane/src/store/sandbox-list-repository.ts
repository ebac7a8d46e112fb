import type { Kysely } from 'kysely';
import { ACTIVE_STATES, type SandboxState } from './sandbox-state.ts';
import type { Database } from './schema.ts';
import { inScope, type TeamScope } from './team-scope.ts';

/** `Kysely` or `Transaction`: every function here runs in whichever it is given. */
type Db = Kysely<Database>;

/** Of all sandboxes; states that no sandbox is in are missing. */
export async function countByState(db: Db): Promise<ReadonlyMap<SandboxState, number>> {
  const rows = await db
    .selectFrom('sandboxes')
    .select((eb) => ['state', eb.fn.countAll().as('total')])
    .groupBy('state')
    .execute();
  return new Map(rows.map(({ state, total }) => [state, Number(total)]));
}

/** Of sandboxes in whichever state, but those that are being ended already. */
export async function listSandboxIdsOfTeam(db: Db, scope: TeamScope): Promise<string[]> {
  const rows = await db
    .selectFrom('sandboxes')
    .select('id')
    .where(inScope(scope))
    .where('state', '!=', 'stopping')
    .execute();
  return rows.map(({ id }) => id);
}

/** How many sandboxes of each team run or are about to; teams without any are missing. */
export async function countRunningByTeam(db: Db): Promise<ReadonlyMap<string, number>> {
  const rows = await db
    .selectFrom('sandboxes')
    .select((eb) => ['team_id', eb.fn.countAll().as('total')])
    .where('state', 'in', ACTIVE_STATES)
    .groupBy('team_id')
    .execute();
  return new Map(rows.map((row) => [row.team_id, Number(row.total)]));
}
