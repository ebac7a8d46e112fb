import type { Kysely } from 'kysely';
import { migrate } from './migrate.ts';
import { openSqlite } from './node-sqlite.ts';
import { openPostgres } from './postgres.ts';
import type { Database } from './schema.ts';

/** Where the state is kept. */
export type StoreLocation =
  /** SQLite file, made when missing; `:memory:` for tests. */
  | { readonly databasePath: string }
  /** `postgres://…`; may hold a password. */
  | { readonly databaseUrl: string };

/** Opens the database at the current schema. The caller ends it with `destroy()`. Throws NestboxError. */
export async function openStore(location: StoreLocation): Promise<Kysely<Database>> {
  if ('databaseUrl' in location) {
    await using migrating = closing(openPostgres(location.databaseUrl, { noTimeout: true }));
    await migrate(migrating.db);
    return openPostgres(location.databaseUrl);
  }
  const db = openSqlite(location.databasePath);
  try {
    await migrate(db);
    return db;
  } catch (error) {
    await db.destroy();
    throw error;
  }
}

function closing(db: Kysely<Database>) {
  return { db, [Symbol.asyncDispose]: () => db.destroy() };
}
