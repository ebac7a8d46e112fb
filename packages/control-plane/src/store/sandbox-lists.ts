import { type Kysely, type SelectQueryBuilder, sql } from 'kysely';
import { BoundedCache } from '../bounded-cache.ts';
import type { SandboxRecord } from './sandbox-record.ts';
import type { SandboxState } from './sandbox-state.ts';
import type { Database } from './schema.ts';
import { type Place, Statements } from './statements.ts';
import { EVERY_TEAM, inScope, type TeamScope } from './team-scope.ts';

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

export interface PageRange {
  readonly order: SortOrder;
  readonly after?: SandboxCursor | undefined;
  readonly limit: number;
}

export interface SandboxPage {
  /** As texts, in the order of the page. */
  readonly shown: readonly string[];
  /** Behind it the next page begins; undefined on the last one. */
  readonly end: SandboxCursor | undefined;
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

/**
 * Names a row as it is: equal versions have equal listed columns. Whatever changes one of those gives the row another
 * revision, but for the end, which moves without. In one column, since each of a hundred rows takes its time.
 */
const VERSION = sql<string>`id || ' ' || revision || ' ' || started_at_ms || ' ' || end_at_ms`.as('version');

/** In characters: of 50,000 sandboxes with little metadata. */
const MAX_KEPT_TEXT = 20_000_000;
/** Rows that are read with one statement. */
const MAX_READ = 100;

interface Input {
  readonly filter: SandboxFilter;
  readonly pairs: readonly (readonly [string, string])[];
  readonly range?: PageRange;
  readonly ids?: readonly string[];
}

type Query<O> = SelectQueryBuilder<Database, 'sandboxes', O>;

/**
 * Pages of sandboxes as texts. The database is asked which rows a page has and at which version each is, and a row is read
 * and its text made only for a version that is not known yet, so what is shown is never older than the database.
 */
export class SandboxLists {
  readonly #statements: Statements<Input>;
  readonly #db: Kysely<Database>;
  readonly #show: (record: ListedRecord) => string;
  /** By version. */
  readonly #texts: BoundedCache<string>;

  constructor(db: Kysely<Database>, show: (record: ListedRecord) => string, maxKeptText = MAX_KEPT_TEXT) {
    this.#db = db;
    this.#statements = new Statements(db);
    this.#show = show;
    this.#texts = new BoundedCache(maxKeptText, (text) => text.length);
  }

  /** Keyset paging over (start, id): a page never shifts when sandboxes come or go. */
  async page(filter: SandboxFilter, range: PageRange): Promise<SandboxPage> {
    // With one more, which tells whether there are further pages.
    const found = await this.#versions(filter, { ...range, limit: range.limit + 1 });
    const versions = found.slice(0, range.limit);
    const known = versions.map((version) => this.#texts.get(version));
    const read = await this.#read(
      filter,
      versions.filter((_, index) => known[index] === undefined).map((version) => parseVersion(version).id),
    );
    const last = versions.at(-1);
    return {
      // What is missing now has gone between the two looks, or does not pass the filter any more.
      shown: versions.flatMap((version, index) => known[index] ?? read.get(parseVersion(version).id) ?? []),
      end: found.length > versions.length && last !== undefined ? parseVersion(last) : undefined,
    };
  }

  async count(filter: SandboxFilter): Promise<number> {
    const rows = await this.#statements.run(`count ${shapeOf(filter)}`, inputOf(filter), (place) =>
      this.#matching(filter, place).select((eb) => eb.fn.countAll().as('total')),
    );
    return Number(rows[0]?.total);
  }

  async #versions(filter: SandboxFilter, range: PageRange): Promise<string[]> {
    const shape = `page ${range.order} ${range.after !== undefined} ${shapeOf(filter)}`;
    const rows = await this.#statements.run(shape, { ...inputOf(filter), range }, (place) =>
      within(this.#matching(filter, place), range, place).select(VERSION),
    );
    return rows.map(({ version }) => version);
  }

  /** By id. */
  async #read(filter: SandboxFilter, ids: readonly string[]): Promise<ReadonlyMap<string, string>> {
    const texts = new Map<string, string>();
    for (let start = 0; start < ids.length; start += MAX_READ) {
      const some = ids.slice(start, start + MAX_READ);
      const rows = await this.#statements.run(
        `read ${some.length} ${shapeOf(filter)}`,
        { ...inputOf(filter), ids: some },
        (place) =>
          this.#matching(filter, place)
            .select([...LISTED_COLUMNS, VERSION])
            .where(
              'id',
              'in',
              some.map((_, index) => place(({ ids: given }) => given?.[index] ?? '')),
            ),
      );
      for (const row of rows) {
        const text = this.#show({
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
        });
        this.#texts.set(row.version, text);
        texts.set(row.id, text);
      }
    }
    return texts;
  }

  #matching(filter: SandboxFilter, place: Place<Input>): Query<unknown> {
    const { scope, states, metadata, template, startedAfterMs } = filter;
    const teamId = place(({ filter: given }) => (given.scope === EVERY_TEAM ? '' : given.scope.teamId));
    let query: Query<unknown> = this.#db
      .selectFrom('sandboxes')
      .where(inScope(scope === EVERY_TEAM ? scope : { teamId }))
      .where('sandboxes.state', 'in', states);
    if (template !== undefined) {
      const name = place(({ filter: given }) => given.template ?? '');
      query = query.where((eb) => eb.or([eb('sandboxes.template_id', '=', name), eb('sandboxes.alias', '=', name)]));
    }
    if (startedAfterMs !== undefined)
      query = query.where(
        'sandboxes.started_at_ms',
        '>=',
        place(({ filter: given }) => given.startedAfterMs ?? 0),
      );
    for (const index of Object.keys(metadata).keys()) {
      query = query.where((eb) =>
        eb.exists(
          eb
            .selectFrom('sandbox_metadata')
            .select('sandbox_metadata.key')
            .whereRef('sandbox_metadata.sandbox_id', '=', 'sandboxes.id')
            .where(
              'sandbox_metadata.key',
              '=',
              place(({ pairs }) => pairs[index]?.[0] ?? ''),
            )
            .where(
              'sandbox_metadata.value',
              '=',
              place(({ pairs }) => pairs[index]?.[1] ?? ''),
            ),
        ),
      );
    }
    return query;
  }
}

function within(query: Query<unknown>, { order, after }: PageRange, place: Place<Input>): Query<unknown> {
  const sorted = query
    .orderBy('sandboxes.started_at_ms', order)
    .orderBy('sandboxes.id', order)
    .limit(place(({ range }) => range?.limit ?? 0));
  if (after === undefined) return sorted;
  const [beyond, from] = order === 'asc' ? (['>', '>='] as const) : (['<', '<='] as const);
  const startedAtMs = place(({ range }) => range?.after?.startedAtMs ?? 0);
  const id = place(({ range }) => range?.after?.id ?? '');
  // The first condition follows from the second, and tells the database where in its index to begin.
  return sorted
    .where('sandboxes.started_at_ms', from, startedAtMs)
    .where((eb) =>
      eb.or([
        eb('sandboxes.started_at_ms', beyond, startedAtMs),
        eb.and([eb('sandboxes.started_at_ms', '=', startedAtMs), eb('sandboxes.id', beyond, id)]),
      ]),
    );
}

function inputOf(filter: SandboxFilter): Input {
  return { filter, pairs: Object.entries(filter.metadata) };
}

/** What of a filter changes the statement itself. */
function shapeOf({ scope, states, metadata, template, startedAfterMs }: SandboxFilter): string {
  const pairs = Object.keys(metadata).length;
  return `${scope === EVERY_TEAM} ${states} ${pairs} ${template !== undefined} ${startedAfterMs !== undefined}`;
}

function parseVersion(version: string): SandboxCursor {
  const [id = '', , startedAtMs] = version.split(' ', 3);
  return { id, startedAtMs: Number(startedAtMs) };
}
