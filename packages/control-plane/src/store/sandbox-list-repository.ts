import type { Kysely, SelectQueryBuilder } from 'kysely';
import type { SandboxRecord } from './sandbox-record.ts';
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

/** What a list tells of a sandbox. */
export interface ListedRecord
  extends Pick<
    SandboxRecord,
    | 'id'
    | 'state'
    | 'templateId'
    | 'alias'
    | 'vcpuCount'
    | 'memoryMib'
    | 'diskMib'
    | 'envdVersion'
    | 'startedAtMs'
    | 'endAtMs'
  > {
  /** JSON object of strings, as it is stored: lists pass it on unread. */
  readonly metadataJson: string | undefined;
}

/** Reading a column of a hundred rows takes as long as finding them. */
const LISTED_COLUMNS = [
  'id',
  'state',
  'template_id',
  'alias',
  'metadata',
  'vcpu_count',
  'memory_mib',
  'disk_mib',
  'envd_version',
  'started_at_ms',
  'end_at_ms',
] as const;

/** Keyset paging over (start, id): a page never shifts when sandboxes come or go. */
export async function pageSandboxes(db: Db, filter: SandboxFilter, page: SandboxPage): Promise<ListedRecord[]> {
  let query = matching(db.selectFrom('sandboxes'), filter)
    .select(LISTED_COLUMNS)
    .orderBy('sandboxes.started_at_ms', page.order)
    .orderBy('sandboxes.id', page.order)
    .limit(page.limit);
  const { after } = page;
  if (after !== undefined) {
    const [beyond, from] = page.order === 'asc' ? (['>', '>='] as const) : (['<', '<='] as const);
    // The first condition follows from the second, and tells the database where in its index to begin.
    query = query
      .where('sandboxes.started_at_ms', from, after.startedAtMs)
      .where((eb) =>
        eb.or([
          eb('sandboxes.started_at_ms', beyond, after.startedAtMs),
          eb.and([eb('sandboxes.started_at_ms', '=', after.startedAtMs), eb('sandboxes.id', beyond, after.id)]),
        ]),
      );
  }
  return (await query.execute()).map((row) => ({
    id: row.id,
    state: row.state,
    templateId: row.template_id,
    alias: row.alias ?? undefined,
    metadataJson: row.metadata ?? undefined,
    vcpuCount: row.vcpu_count,
    memoryMib: row.memory_mib,
    diskMib: row.disk_mib,
    envdVersion: row.envd_version,
    startedAtMs: row.started_at_ms,
    endAtMs: row.end_at_ms,
  }));
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
