import { type Kysely, sql } from 'kysely';
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

/** The PostgreSQL database that `DATABASE_URL` names, else that file. Takes the variable out: it may hold a password, and programs inherit the environment. */
export function takeStoreLocation(databasePath: string, env: NodeJS.ProcessEnv): StoreLocation {
  const { DATABASE_URL: databaseUrl } = env;
  delete env.DATABASE_URL;
  return databaseUrl ? { databaseUrl } : { databasePath };
}

/** Opens the database at the current schema. The caller ends it with `destroy()`. Throws NestboxError. */
export async function openStore(location: StoreLocation): Promise<Kysely<Database>> {
  if ('databaseUrl' in location) return openShared(location.databaseUrl);
  const db = openSqlite(location.databasePath);
  try {
    await migrate(db);
    return db;
  } catch (error) {
    await db.destroy();
    throw error;
  }
}

/** Any number of servers may do so; one of them brings the schema forward. */
async function openShared(url: string): Promise<Kysely<Database>> {
  await using migrating = closing(openPostgres(url, { noTimeout: true }));
  await migrate(migrating.db);
  const db = openPostgres(url);
  try {
    // Its `destroy()` does nothing before the first statement.
    await sql`select 1`.execute(db);
    return db;
  } catch (error) {
    await db.destroy();
    throw error;
  }
}

function closing(db: Kysely<Database>) {
  return { db, [Symbol.asyncDispose]: () => db.destroy() };
}
