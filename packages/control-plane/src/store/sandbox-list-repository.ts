import type { Kysely, SelectQueryBuilder } from 'kysely';
import { fromRow, type SandboxRecord } from './sandbox-record.ts';
import { ACTIVE_STATES, type SandboxState } from './sandbox-state.ts';
import type { Database } from './schema.ts';
import { inScope, type TeamScope } from './team-scope.ts';

/** `Kysely` or `Transaction`: every function here runs in whichever it is given. */
type Db = Kysely<Database>;

export type SortOrder = 'asc' | 'desc';

/** Where a page ended: the next one begins behind this sandbox. */
export interface SandboxCursor {
  readonly startedAtMs: number;
  readonly id: string;
}

export interface SandboxFilter {
  readonly scope: TeamScope;
  readonly states: readonly SandboxState[];
  /** Every pair must be there, with equal values. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Template id or name. */
  readonly template?: string | undefined;
  /** Inclusive. */
  readonly startedAfterMs?: number | undefined;
}

export interface SandboxPage {
  readonly order: SortOrder;
  readonly after?: SandboxCursor | undefined;
  readonly limit: number;
}

/** Keyset paging over (start, id): a page never shifts when sandboxes come or go. */
export async function pageSandboxes(db: Db, filter: SandboxFilter, page: SandboxPage): Promise<SandboxRecord[]> {
  // Narrow first: an index has all that this sorts, where whole rows would be read and sorted to throw most of them away.
  let chosen = matching(db.selectFrom('sandboxes'), filter)
    .select('sandboxes.id')
    .orderBy('sandboxes.started_at_ms', page.order)
    .orderBy('sandboxes.id', page.order)
    .limit(page.limit);
  const { after } = page;
  if (after !== undefined) {
    const beyond = page.order === 'asc' ? '>' : '<';
    chosen = chosen.where((eb) =>
      eb.or([
        eb('sandboxes.started_at_ms', beyond, after.startedAtMs),
        eb.and([eb('sandboxes.started_at_ms', '=', after.startedAtMs), eb('sandboxes.id', beyond, after.id)]),
      ]),
    );
  }
  const rows = await db
    .selectFrom('sandboxes')
    .selectAll()
    .where('id', 'in', chosen)
    .orderBy('started_at_ms', page.order)
    .orderBy('id', page.order)
    .execute();
  return rows.map(fromRow);
}

export async function countSandboxes(db: Db, filter: SandboxFilter): Promise<number> {
  const row = await matching(db.selectFrom('sandboxes'), filter)
    .select((eb) => eb.fn.countAll().as('total'))
    .executeTakeFirstOrThrow();
  return Number(row.total);
}

/** Of all sandboxes; states that no sandbox is in are missing. */
export async function countByState(db: Db): Promise<ReadonlyMap<SandboxState, number>> {
  const rows = await db
    .selectFrom('sandboxes')
    .select((eb) => ['state', eb.fn.countAll().as('total')])
    .groupBy('state')
    .execute();
  return new Map(rows.map(({ state, total }) => [state, Number(total)]));
}

function matching<O>(
  query: SelectQueryBuilder<Database, 'sandboxes', O>,
  filter: SandboxFilter,
): SelectQueryBuilder<Database, 'sandboxes', O> {
  let filtered = query.where(inScope(filter.scope)).where('sandboxes.state', 'in', filter.states);
  const { template, startedAfterMs } = filter;
  if (template !== undefined)
    filtered = filtered.where((eb) =>
      eb.or([eb('sandboxes.template_id', '=', template), eb('sandboxes.alias', '=', template)]),
    );
  if (startedAfterMs !== undefined) filtered = filtered.where('sandboxes.started_at_ms', '>=', startedAfterMs);
  for (const [key, value] of Object.entries(filter.metadata)) {
    filtered = filtered.where((eb) =>
      eb.exists(
        eb
          .selectFrom('sandbox_metadata')
          .select('sandbox_metadata.key')
          .whereRef('sandbox_metadata.sandbox_id', '=', 'sandboxes.id')
          .where('sandbox_metadata.key', '=', key)
          .where('sandbox_metadata.value', '=', value),
      ),
    );
  }
  return filtered;
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
