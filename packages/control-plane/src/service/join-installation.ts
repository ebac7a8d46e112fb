import { NestboxError } from '@nestbox/contract';
import type { Kysely } from 'kysely';
import {
  findInstallation,
  type Installation,
  markInstallation,
  replaceSealedSecrets,
} from '../store/installation-repository.ts';
import { openStore } from '../store/open-store.ts';
import type { Database } from '../store/schema.ts';
import { anothersDatabase, installationMark } from './own-database.ts';
import { type InstallationSecrets, openSecrets, sealSecrets } from './sealed-secrets.ts';

/**
 * The secrets that a server on this database is to have: its own, or, when it has none yet, those of the installation that
 * uses the database already. They are kept there sealed with the password in the database's URL, so that whoever gets hold
 * of a copy of the database alone has no key to anything. Without a password there they are not kept. Throws `conflict`,
 * which says what to copy, when they cannot be had; and what openStore throws.
 */
export async function joinInstallation(
  databaseUrl: string,
  own: InstallationSecrets | undefined,
  make: () => InstallationSecrets,
): Promise<InstallationSecrets> {
  const db = await openStore({ databaseUrl });
  try {
    const password = decodeURIComponent(new URL(databaseUrl).password);
    if (own !== undefined) return await joinWith(db, own, password);
    const found = await findInstallation(db);
    if (found !== undefined) return await takeOver(found, password);
    const made = make();
    // Of several that start at once on an empty database one gives the others its own.
    const marked = await mark(db, made, password);
    return marked.mark === installationMark(made.tokenSeed) ? made : await takeOver(marked, password);
  } finally {
    await db.destroy();
  }
}

async function mark(db: Kysely<Database>, secrets: InstallationSecrets, password: string): Promise<Installation> {
  const ownMark = installationMark(secrets.tokenSeed);
  const sealedSecrets = password === '' ? undefined : await sealSecrets(secrets, password, ownMark);
  return await markInstallation(db, { mark: ownMark, sealedSecrets });
}

async function joinWith(
  db: Kysely<Database>,
  own: InstallationSecrets,
  password: string,
): Promise<InstallationSecrets> {
  const marked = (await findInstallation(db)) ?? (await mark(db, own, password));
  const ownMark = installationMark(own.tokenSeed);
  if (marked.mark !== ownMark) throw anothersDatabase();
  if (password === '') return own;
  // The password has changed, or somebody replaced the key: what further servers get is what the last start had.
  const kept = marked.sealedSecrets && (await openSecrets(marked.sealedSecrets, password, ownMark));
  if (!kept || kept.apiKey !== own.apiKey || kept.adminToken !== own.adminToken)
    await replaceSealedSecrets(db, ownMark, await sealSecrets(own, password, ownMark));
  return own;
}

async function takeOver(found: Installation, password: string): Promise<InstallationSecrets> {
  const secrets =
    found.sealedSecrets === undefined || password === ''
      ? undefined
      : await openSecrets(found.sealedSecrets, password, found.mark);
  if (secrets !== undefined) return secrets;
  throw new NestboxError(
    'conflict',
    'The database that DATABASE_URL names is in use by a Nestbox installation whose secrets this server does not have and cannot read there: that needs the password which the installation was last started with, in DATABASE_URL. Copy the files token-seed, api-key and admin-token from the state folder of one of its servers to that of this one, and start again.',
  );
}
