import { createHash } from 'node:crypto';
import { NestboxError } from '@nestbox/contract';
import type { Kysely } from 'kysely';
import { markInstallation } from '../store/installation-repository.ts';
import type { Database } from '../store/schema.ts';

/**
 * A database may be named by mistake, and a server forgets sandboxes that its hosts do not have: so one that another
 * installation has used, known by its seed of tokens, is refused with `conflict` and left as it is.
 */
export async function requireOwnDatabase(db: Kysely<Database>, tokenSeed: string): Promise<void> {
  const mark = createHash('sha256').update(`nestbox installation ${tokenSeed}`).digest('hex');
  if ((await markInstallation(db, mark)) === mark) return;
  throw new NestboxError(
    'conflict',
    'The database that DATABASE_URL names belongs to another Nestbox installation (it was used with another token seed). Give this one a database of its own.',
  );
}
