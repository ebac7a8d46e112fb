import type { Kysely, Selectable } from 'kysely';
import type { Database, TeamTable } from './schema.ts';

type Db = Kysely<Database>;

/** Undefined: no limit. */
export interface TeamLimits {
  /** Sandboxes that run or are about to. */
  readonly maxRunning: number | undefined;
  /** Of those together. */
  readonly maxVcpus: number | undefined;
  readonly maxMemoryMib: number | undefined;
  /** Copies count as well. */
  readonly maxCreatesPerMinute: number | undefined;
}

export interface TeamRecord {
  readonly id: string;
  readonly name: string;
  /** The one that was there first. */
  readonly isDefault: boolean;
  readonly createdAtMs: number;
  readonly limits: TeamLimits;
}

/** Returns false when another team has the name. */
export async function insertTeam(db: Db, team: TeamRecord): Promise<boolean> {
  const result = await db
    .insertInto('teams')
    .values({
      id: team.id,
      name: team.name,
      is_default: Number(team.isDefault),
      created_at_ms: team.createdAtMs,
      ...limitColumns(team.limits),
    })
    .onConflict((conflict) => conflict.column('name').doNothing())
    .executeTakeFirst();
  return (result.numInsertedOrUpdatedRows ?? 0n) > 0n;
}

export async function findTeam(db: Db, id: string): Promise<TeamRecord | undefined> {
  const row = await db.selectFrom('teams').selectAll().where('id', '=', id).executeTakeFirst();
  return row && fromTeamRow(row);
}

export async function findTeamByName(db: Db, name: string): Promise<TeamRecord | undefined> {
  const row = await db.selectFrom('teams').selectAll().where('name', '=', name).executeTakeFirst();
  return row && fromTeamRow(row);
}

/** The one that the first migration made. */
export async function getDefaultTeam(db: Db): Promise<TeamRecord> {
  return fromTeamRow(await db.selectFrom('teams').selectAll().where('is_default', '=', 1).executeTakeFirstOrThrow());
}

/** Oldest first. */
export async function listTeams(db: Db): Promise<TeamRecord[]> {
  const rows = await db.selectFrom('teams').selectAll().orderBy('created_at_ms').orderBy('id').execute();
  return rows.map(fromTeamRow);
}

/** What is undefined stays. Returns undefined when there is no such team. */
export async function updateTeam(
  db: Db,
  id: string,
  { name, limits }: { readonly name?: string | undefined; readonly limits?: TeamLimits | undefined },
): Promise<TeamRecord | undefined> {
  const row = await db
    .updateTable('teams')
    .set({ id, ...(name === undefined ? {} : { name }), ...(limits === undefined ? {} : limitColumns(limits)) })
    .where('id', '=', id)
    .returningAll()
    .executeTakeFirst();
  return row && fromTeamRow(row);
}

/** With its keys and its record of use. */
export async function deleteTeam(db: Db, id: string): Promise<boolean> {
  return await db.transaction().execute(async (trx) => {
    await trx.deleteFrom('api_keys').where('team_id', '=', id).execute();
    await trx.deleteFrom('team_usage').where('team_id', '=', id).execute();
    await trx.deleteFrom('template_usage').where('team_id', '=', id).execute();
    const { numDeletedRows } = await trx.deleteFrom('teams').where('id', '=', id).executeTakeFirstOrThrow();
    return numDeletedRows > 0n;
  });
}

function limitColumns({ maxRunning, maxVcpus, maxMemoryMib, maxCreatesPerMinute }: TeamLimits) {
  return {
    max_running: maxRunning ?? null,
    max_vcpus: maxVcpus ?? null,
    max_memory_mib: maxMemoryMib ?? null,
    max_creates_per_minute: maxCreatesPerMinute ?? null,
  };
}

function fromTeamRow(row: Selectable<TeamTable>): TeamRecord {
  return {
    id: row.id,
    name: row.name,
    isDefault: row.is_default === 1,
    createdAtMs: row.created_at_ms,
    limits: {
      maxRunning: row.max_running ?? undefined,
      maxVcpus: row.max_vcpus ?? undefined,
      maxMemoryMib: row.max_memory_mib ?? undefined,
      maxCreatesPerMinute: row.max_creates_per_minute ?? undefined,
    },
  };
}
