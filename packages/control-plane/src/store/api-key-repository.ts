import type { Kysely, Selectable } from 'kysely';
import type { ApiKeyTable, Database } from './schema.ts';
import type { OneTeam } from './team-scope.ts';

type Db = Kysely<Database>;

export interface ApiKeyRecord {
  readonly id: string;
  readonly teamId: string;
  readonly name: string;
  /** SHA-256 of the key, in hexadecimal. */
  readonly keyHash: string;
  /** Of the key without `e2b_`. */
  readonly valueLength: number;
  readonly shownPrefix: string;
  readonly shownSuffix: string;
  readonly createdAtMs: number;
  readonly lastUsedAtMs: number | undefined;
  readonly expiresAtMs: number | undefined;
  readonly revokedAtMs: number | undefined;
  /** It comes from a configuration: another one there takes its place. */
  readonly isConfigured: boolean;
}

/** Returns false, and changes nothing, when the same key is there already, be it revoked. */
export async function insertApiKey(db: Db, key: ApiKeyRecord): Promise<boolean> {
  const result = await db
    .insertInto('api_keys')
    .values({
      id: key.id,
      team_id: key.teamId,
      name: key.name,
      key_hash: key.keyHash,
      value_length: key.valueLength,
      shown_prefix: key.shownPrefix,
      shown_suffix: key.shownSuffix,
      created_at_ms: key.createdAtMs,
      last_used_at_ms: key.lastUsedAtMs ?? null,
      expires_at_ms: key.expiresAtMs ?? null,
      revoked_at_ms: key.revokedAtMs ?? null,
      is_configured: key.isConfigured ? 1 : 0,
    })
    .onConflict((conflict) => conflict.column('key_hash').doNothing())
    .executeTakeFirst();
  return (result.numInsertedOrUpdatedRows ?? 0n) > 0n;
}

/** Whatever its state: revoked and expired ones too. */
export async function findApiKeyByHash(db: Db, keyHash: string): Promise<ApiKeyRecord | undefined> {
  const row = await db.selectFrom('api_keys').selectAll().where('key_hash', '=', keyHash).executeTakeFirst();
  return row && fromKeyRow(row);
}

/** Those of a team that are not revoked, oldest first. */
export async function listApiKeys(db: Db, { teamId }: OneTeam): Promise<ApiKeyRecord[]> {
  const rows = await db
    .selectFrom('api_keys')
    .selectAll()
    .where('team_id', '=', teamId)
    .where('revoked_at_ms', 'is', null)
    .orderBy('created_at_ms')
    .orderBy('id')
    .execute();
  return rows.map(fromKeyRow);
}

/** Returns false when the team has no such key. */
export async function renameApiKey(db: Db, { teamId }: OneTeam, id: string, name: string): Promise<boolean> {
  const { numUpdatedRows } = await db
    .updateTable('api_keys')
    .set({ name })
    .where('id', '=', id)
    .where('team_id', '=', teamId)
    .where('revoked_at_ms', 'is', null)
    .executeTakeFirstOrThrow();
  return numUpdatedRows > 0n;
}

/** Returns false when the team has no such key, or it is revoked already. */
export async function revokeApiKey(db: Db, { teamId }: OneTeam, id: string, atMs: number): Promise<boolean> {
  const { numUpdatedRows } = await db
    .updateTable('api_keys')
    .set({ revoked_at_ms: atMs })
    .where('id', '=', id)
    .where('team_id', '=', teamId)
    .where('revoked_at_ms', 'is', null)
    .executeTakeFirstOrThrow();
  return numUpdatedRows > 0n;
}

/** Deletes the keys of configurations but the one with this hash. Revoked ones stay, since they must stay revoked. */
export async function dropReplacedKeys(db: Db, keptHash: string): Promise<void> {
  await db
    .deleteFrom('api_keys')
    .where('is_configured', '=', 1)
    .where('key_hash', '!=', keptHash)
    .where('revoked_at_ms', 'is', null)
    .execute();
}

/** Never moves it back: another server may have seen the key later. */
export async function noteKeyUse(db: Db, id: string, atMs: number): Promise<void> {
  await db
    .updateTable('api_keys')
    .set({ last_used_at_ms: atMs })
    .where('id', '=', id)
    .where((eb) => eb.or([eb('last_used_at_ms', 'is', null), eb('last_used_at_ms', '<', atMs)]))
    .execute();
}

function fromKeyRow(row: Selectable<ApiKeyTable>): ApiKeyRecord {
  return {
    id: row.id,
    teamId: row.team_id,
    name: row.name,
    keyHash: row.key_hash,
    valueLength: row.value_length,
    shownPrefix: row.shown_prefix,
    shownSuffix: row.shown_suffix,
    createdAtMs: row.created_at_ms,
    lastUsedAtMs: row.last_used_at_ms ?? undefined,
    expiresAtMs: row.expires_at_ms ?? undefined,
    revokedAtMs: row.revoked_at_ms ?? undefined,
    isConfigured: row.is_configured === 1,
  };
}
