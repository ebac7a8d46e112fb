import { NestboxError } from '@nestbox/contract';
import { type Kysely, sql } from 'kysely';
import { type Migration, Migrator } from 'kysely/migration';
import { withSchemaLock } from './dialect.ts';
import * as sandboxes from './migrations/0001-sandboxes.ts';
import * as pauses from './migrations/0002-pauses.ts';
import * as endedSandboxes from './migrations/0010-ended-sandboxes.ts';
import * as teams from './migrations/0011-teams.ts';
import * as audit from './migrations/0012-audit.ts';
import * as listOrder from './migrations/0013-list-order.ts';
import * as installation from './migrations/0014-installation.ts';
import * as leases from './migrations/0015-leases.ts';
import * as owners from './migrations/0016-owners.ts';
import * as sharedSecrets from './migrations/0017-shared-secrets.ts';
import * as hostStatuses from './migrations/0018-host-statuses.ts';
import * as listVersions from './migrations/0019-list-versions.ts';
import * as auditReasons from './migrations/0020-audit-reasons.ts';
import * as keyIds from './migrations/0021-key-ids.ts';

/** In the order of their names. One that has been released never changes; a new one is added instead. */
export const MIGRATIONS: Readonly<Record<string, Migration>> = {
  '0001-sandboxes': sandboxes,
  '0002-pauses': pauses,
  '0010-ended-sandboxes': endedSandboxes,
  '0011-teams': teams,
  '0012-audit': audit,
  '0013-list-order': listOrder,
  '0014-installation': installation,
  '0015-leases': leases,
  '0016-owners': owners,
  '0017-shared-secrets': sharedSecrets,
  '0018-host-statuses': hostStatuses,
  '0019-list-versions': listVersions,
  '0020-audit-reasons': auditReasons,
  '0021-key-ids': keyIds,
};

/**
 * Brings the database to this version's schema, and only forward: one that a newer Nestbox has touched is refused with
 * `conflict` and left as it is. Of several that start at once on one database one does it, and the others wait.
 */
export async function migrate<DB>(
  db: Kysely<DB>,
  migrations: Readonly<Record<string, Migration>> = MIGRATIONS,
): Promise<void> {
  await withSchemaLock(db, () => bringForward(db, migrations));
}

async function bringForward<DB>(db: Kysely<DB>, migrations: Readonly<Record<string, Migration>>): Promise<void> {
  const unknown = (await executedMigrations(db)).filter((name) => !Object.hasOwn(migrations, name));
  if (unknown.length > 0)
    throw new NestboxError(
      'conflict',
      `The database was made by a newer Nestbox (it has ${unknown.join(', ')}). Use that version or newer.`,
    );
  const migrator = new Migrator({ db, provider: { getMigrations: async () => ({ ...migrations }) } });
  const { error } = await migrator.migrateToLatest();
  if (error instanceof NestboxError) throw error;
  if (error !== undefined)
    throw new NestboxError('internal', 'The database could not be brought to the current schema.', { cause: error });
}

const MIGRATION_TABLE = 'kysely_migration';

async function executedMigrations<DB>(db: Kysely<DB>): Promise<string[]> {
  const tables = await db.introspection.getTables({ withInternalKyselyTables: true });
  if (!tables.some((table) => table.name === MIGRATION_TABLE)) return [];
  const { rows } = await sql<{ name: string }>`select name from ${sql.table(MIGRATION_TABLE)}`.execute(db);
  return rows.map((row) => row.name);
}
