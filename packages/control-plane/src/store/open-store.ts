import type { Kysely } from 'kysely';
import { migrate } from './migrate.ts';
import { openSqlite } from './node-sqlite.ts';
import type { Database } from './schema.ts';

/** Opens the database at the current schema. The caller ends it with `destroy()`. Throws NestboxError. */
export async function openStore(databasePath: string): Promise<Kysely<Database>> {
  const db = openSqlite(databasePath);
  try {
    await migrate(db);
    return db;
  } catch (error) {
    await db.destroy();
    throw error;
  }
}
