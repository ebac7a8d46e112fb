import type { Kysely } from 'kysely';
import { migrate } from '../store/migrate.ts';
import type { Database } from '../store/schema.ts';

/** A database system that the repositories must work on. */
export interface RepositoryBackend {
  readonly name: string;
  /** An empty database that nobody else uses; it is gone with `destroy()`. */
  open(): Promise<Kysely<Database>> | Kysely<Database>;
}

/** With an empty database at the current schema, which is gone afterwards. */
export async function withDatabase(
  backend: RepositoryBackend,
  use: (db: Kysely<Database>) => Promise<void>,
): Promise<void> {
  const db = await backend.open();
  try {
    await migrate(db);
    await use(db);
  } finally {
    await db.destroy();
  }
}
