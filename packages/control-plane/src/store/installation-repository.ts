import type { Kysely } from 'kysely';
import type { Database } from './schema.ts';

const ONLY_ROW = 1;

export interface Installation {
  /** Tells one installation from another. */
  readonly mark: string;
  /** What further servers need, for those who can open it; undefined when the first one could not seal it. */
  readonly sealedSecrets: string | undefined;
}

export async function findInstallation(db: Kysely<Database>): Promise<Installation | undefined> {
  const row = await db.selectFrom('installation').selectAll().where('id', '=', ONLY_ROW).executeTakeFirst();
  return row && { mark: row.mark, sealedSecrets: row.sealed_secrets ?? undefined };
}

/** Marks the database as this installation's, unless it is marked already. Answers whose it is. */
export async function markInstallation(
  db: Kysely<Database>,
  { mark, sealedSecrets }: Installation,
): Promise<Installation> {
  await db
    .insertInto('installation')
    .values({ id: ONLY_ROW, mark, sealed_secrets: sealedSecrets ?? null })
    .onConflict((conflict) => conflict.column('id').doNothing())
    .execute();
  const found = await findInstallation(db);
  if (found === undefined) throw new Error('The row that was just written is not there.');
  return found;
}

export async function replaceSealedSecrets(db: Kysely<Database>, mark: string, sealedSecrets: string): Promise<void> {
  await db
    .updateTable('installation')
    .set({ sealed_secrets: sealedSecrets })
    .where('id', '=', ONLY_ROW)
    .where('mark', '=', mark)
    .execute();
}
