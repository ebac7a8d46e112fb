import { randomBytes } from 'node:crypto';
import { type Kysely, type Selectable, sql } from 'kysely';
import { z } from 'zod';
import type { AuditEntryTable, Database } from './schema.ts';
import { EVERY_TEAM, type TeamScope } from './team-scope.ts';

type Db = Kysely<Database>;

export type AuditActor =
  | { readonly kind: 'key'; readonly keyId: string; readonly name: string }
  | { readonly kind: 'admin' }
  /** The server by itself. */
  | { readonly kind: 'system' }
  | { readonly kind: 'unknown' };

export interface AuditEntry {
  readonly id: string;
  readonly atMs: number;
  readonly requestId: string | undefined;
  readonly operation: string;
  readonly targets: readonly string[];
  readonly teamId: string | undefined;
  readonly actor: AuditActor;
  readonly address: string | undefined;
  /** Undefined: nobody was answered. */
  readonly status: number | undefined;
  readonly errorCode: string | undefined;
  readonly count: number;
  /** Why the server did it by itself. */
  readonly reason: string | undefined;
}

export interface AuditFilter {
  readonly scope: TeamScope;
  /** Itself, and those below it: `sandbox` is also `sandbox.create`. */
  readonly operation?: string | undefined;
  readonly target?: string | undefined;
  readonly keyId?: string | undefined;
  readonly actor?: AuditActor['kind'] | undefined;
  /** Inclusive. */
  readonly sinceMs?: number | undefined;
  /** Exclusive. */
  readonly untilMs?: number | undefined;
}

let lastSequence = 0;

/** Ids that sort by time, and those of one process by their order, in every collation: hexadecimal digits, 24 of them. */
export function newAuditId(atMs: number): string {
  lastSequence = (lastSequence + 1) % 0x1_0000;
  const random = randomBytes(4).toString('hex');
  return atMs.toString(16).padStart(12, '0') + lastSequence.toString(16).padStart(4, '0') + random;
}

export async function insertAuditEntries(db: Db, entries: readonly AuditEntry[]): Promise<void> {
  if (entries.length > 0) await db.insertInto('audit_entries').values(entries.map(toAuditRow)).execute();
}

/** Newest first; `before` is the id that the last page ended with. */
export async function pageAuditEntries(
  db: Db,
  filter: AuditFilter,
  page: { readonly before?: string | undefined; readonly limit: number },
): Promise<AuditEntry[]> {
  const { scope, operation, target, keyId, actor, sinceMs, untilMs } = filter;
  let query = db.selectFrom('audit_entries').selectAll().orderBy('id', 'desc').limit(page.limit);
  if (scope !== EVERY_TEAM) query = query.where('team_id', '=', scope.teamId);
  if (operation !== undefined)
    query = query.where((eb) =>
      eb.or([eb('operation', '=', operation), like('operation', `${escapeLike(operation)}.%`)]),
    );
  if (target !== undefined) query = query.where(like('targets', `%${escapeLike(JSON.stringify(target))}%`));
  if (keyId !== undefined) query = query.where('key_id', '=', keyId);
  if (actor !== undefined) query = query.where('actor', '=', actor);
  if (sinceMs !== undefined) query = query.where('at_ms', '>=', sinceMs);
  if (untilMs !== undefined) query = query.where('at_ms', '<', untilMs);
  if (page.before !== undefined) query = query.where('id', '<', page.before);
  return (await query.execute()).map(fromAuditRow);
}

/**
 * Drops what is older, and of the rest the oldest above `maxEntries` of each team's keys, of administrators and of the
 * server itself for each team, and of those whom nobody knows: whoever makes many entries pushes out none but their own kind.
 */
export async function trimAuditEntries(db: Db, beforeMs: number, maxEntries: number): Promise<void> {
  await db.deleteFrom('audit_entries').where('at_ms', '<', beforeMs).execute();
  const crowded = await db
    .selectFrom('audit_entries')
    .select(['actor', 'team_id'])
    .groupBy(['actor', 'team_id'])
    .having((eb) => eb.fn.countAll(), '>', maxEntries)
    .execute();
  for (const { actor, team_id: teamId } of crowded) {
    const newestDropped = await db
      .selectFrom('audit_entries')
      .select('id')
      .where('actor', '=', actor)
      .where('team_id', teamId === null ? 'is' : '=', teamId)
      .orderBy('id', 'desc')
      .offset(maxEntries)
      .limit(1)
      .executeTakeFirst();
    if (newestDropped === undefined) continue;
    await db
      .deleteFrom('audit_entries')
      .where('actor', '=', actor)
      .where('team_id', teamId === null ? 'is' : '=', teamId)
      .where('id', '<=', newestDropped.id)
      .execute();
  }
}

/** With an escape of its own, since the two databases have different ones without. */
function like(column: 'operation' | 'targets', pattern: string) {
  return sql<boolean>`${sql.ref(column)} like ${pattern} escape '!'`;
}

function escapeLike(text: string): string {
  return text.replaceAll(/[!%_]/g, '!$&');
}

function toAuditRow(entry: AuditEntry): AuditEntryTable {
  const { actor } = entry;
  return {
    id: entry.id,
    at_ms: entry.atMs,
    request_id: entry.requestId ?? null,
    operation: entry.operation,
    targets: JSON.stringify(entry.targets),
    team_id: entry.teamId ?? null,
    actor: actor.kind,
    key_id: actor.kind === 'key' ? actor.keyId : null,
    key_name: actor.kind === 'key' ? actor.name : null,
    address: entry.address ?? null,
    status: entry.status ?? 0,
    error_code: entry.errorCode ?? null,
    count: entry.count,
    reason: entry.reason ?? null,
  };
}

const storedTargets = z.array(z.string());

function fromAuditRow(row: Selectable<AuditEntryTable>): AuditEntry {
  return {
    id: row.id,
    atMs: row.at_ms,
    requestId: row.request_id ?? undefined,
    operation: row.operation,
    targets: storedTargets.parse(JSON.parse(row.targets)),
    teamId: row.team_id ?? undefined,
    actor:
      row.actor === 'key' ? { kind: 'key', keyId: row.key_id ?? '', name: row.key_name ?? '' } : { kind: row.actor },
    address: row.address ?? undefined,
    status: row.status === 0 ? undefined : row.status,
    errorCode: row.error_code ?? undefined,
    count: row.count,
    reason: row.reason ?? undefined,
  };
}
