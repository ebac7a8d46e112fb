import { createHash } from 'node:crypto';
import { NestboxError } from '@nestbox/contract';
import type { Kysely } from 'kysely';
import { markInstallation } from '../store/installation-repository.ts';
import type { Database } from '../store/schema.ts';

/** Tells an installation by its seed of tokens, without telling the seed. */
export function installationMark(tokenSeed: string): string {
  return createHash('sha256').update(`nestbox installation ${tokenSeed}`).digest('hex');
}

/**
 * A database may be named by mistake, and tokens of sandboxes are the same for all servers: so one that another
 * installation has used, known by its seed of tokens, is refused with `conflict` and left as it is.
 */
export async function requireOwnDatabase(db: Kysely<Database>, tokenSeed: string): Promise<void> {
  const mark = installationMark(tokenSeed);
  if ((await markInstallation(db, { mark, sealedSecrets: undefined })).mark !== mark) throw anothersDatabase();
}

export function anothersDatabase(): NestboxError {
  return new NestboxError(
    'conflict',
    'The database that DATABASE_URL names belongs to another Nestbox installation (it was used with another token seed). Give this one a database of its own; or, for one more server of that installation, start it with a new state folder (NESTBOX_DIR), or with the "tokenSeed", "apiKey" and "adminToken" of the others in its configuration.',
  );
}
