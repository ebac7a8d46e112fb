import { openStore, type StoreLocation } from '../store/open-store.ts';
import type { PostgresServer } from './postgres-server.ts';

let postgres: { readonly server: PostgresServer; readonly template: string } | undefined;
/** By the path of the SQLite file in whose place each stands. */
const databases = new Map<string, Promise<StoreLocation>>();

/** From now on the tests of this process keep their state in databases of this server. */
export async function testOnPostgres(server: PostgresServer): Promise<void> {
  const template = await server.createDatabase();
  await (await openStore({ databaseUrl: template })).destroy();
  postgres = { server, template };
}

/** Where a test keeps its state: in this file, or in the PostgreSQL database that stands for it. `:memory:` is a new one. */
export function testStore(databasePath: string): Promise<StoreLocation> {
  if (postgres === undefined) return Promise.resolve({ databasePath });
  if (databasePath === ':memory:') return newDatabase();
  const known = databases.get(databasePath) ?? newDatabase();
  databases.set(databasePath, known);
  return known;
}

async function newDatabase(): Promise<StoreLocation> {
  if (postgres === undefined) throw new Error('testOnPostgres was not called.');
  return { databaseUrl: await postgres.server.createDatabase(postgres.template) };
}
