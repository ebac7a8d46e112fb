import type { Kysely } from 'kysely';
import type { ApiKeyTable, Database } from './schema.ts';

type Db = Kysely<Database>;

/** Stores a key's hash, in place of what was stored under the same id. */
export async function putApiKey(db: Db, key: ApiKeyTable): Promise<void> {
  await db
    .insertInto('api_keys')
    .values(key)
    .onConflict((conflict) => conflict.column('id').doUpdateSet({ name: key.name, key_hash: key.key_hash }))
    .execute();
}

/** SHA-256 in hexadecimal, of every key that is valid now. */
export async function listApiKeyHashes(db: Db): Promise<string[]> {
  const rows = await db.selectFrom('api_keys').select('key_hash').execute();
  return rows.map((row) => row.key_hash);
}
