import type { Kysely } from 'kysely';
import type { Database } from './schema.ts';

const ONLY_ROW = 1;

/** Marks the database as this installation's, unless it is marked already. Answers whose it is. */
export async function markInstallation(db: Kysely<Database>, mark: string): Promise<string> {
  await db
    .insertInto('installation')
    .values({ id: ONLY_ROW, mark })
    .onConflict((conflict) => conflict.column('id').doNothing())
    .execute();
  const row = await db.selectFrom('installation').select('mark').where('id', '=', ONLY_ROW).executeTakeFirstOrThrow();
  return row.mark;
}
