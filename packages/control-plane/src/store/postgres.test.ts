import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { NestboxError } from '@nestbox/contract';
import { type Kysely, sql } from 'kysely';
import { joinInstallation } from '../service/join-installation.ts';
import { requireOwnDatabase } from '../service/own-database.ts';
import { sealSecrets } from '../service/sealed-secrets.ts';
import { type PostgresServer, postgresMissing, startPostgres } from '../testing/postgres-server.ts';
import { describeRepositories } from '../testing/repository-suite.ts';
import { MIGRATIONS, migrate } from './migrate.ts';
import { openStore } from './open-store.ts';
import { openPostgres } from './postgres.ts';
import type { Database } from './schema.ts';

const skip = postgresMissing();
let server: PostgresServer;
const started = new AsyncDisposableStack();

const hasCode = (code: string) => (error: unknown) => error instanceof NestboxError && error.code === code;

describe('on PostgreSQL', { skip }, () => {
  before(async () => {
    server = await startPostgres();
    started.defer(() => server.stop());
  });
  after(() => started.disposeAsync());

  describeRepositories({ name: 'PostgreSQL', open: async () => openPostgres(await server.createDatabase()) });

  test('several that start at once on an empty database bring it forward once', async () => {
    const databaseUrl = await server.createDatabase();
    const stores = Array.from({ length: 5 }, () => openPostgres(databaseUrl));
    await Promise.all(stores.map((db) => migrate(db)));
    for (const db of stores) {
      assert.equal((await db.selectFrom('teams').selectAll().execute()).length, 1);
      await db.destroy();
    }
  });

  test('a database that a newer version has touched is refused, and stays as it is', async () => {
    const databaseUrl = await server.createDatabase();
    const db = openPostgres(databaseUrl);
    await migrate(db, { ...MIGRATIONS, '9999-from-the-future': { up: async () => {} } });
    await assert.rejects(openStore({ databaseUrl }), hasCode('conflict'));
    const names = await sql<{ name: string }>`select name from kysely_migration`.execute(db);
    assert.ok(names.rows.some(({ name }) => name === '9999-from-the-future'));
    await db.destroy();
  });

  test('a transaction that stands still lets go of its rows', async () => {
    const databaseUrl = await server.createDatabase();
    const [still, other] = [await openStore({ databaseUrl }), await openStore({ databaseUrl })];
    const rename = (db: Kysely<Database>, name: string) => db.updateTable('teams').set({ name }).execute();
    const standing = still.transaction().execute(async (trx) => {
      await rename(trx, 'still');
      await delay(8000);
      await rename(trx, 'too late');
    });
    const ended = assert.rejects(standing, hasCode('database_unavailable'));
    await delay(100);
    await rename(other, 'other');
    await ended;
    assert.deepEqual(
      (await other.selectFrom('teams').select('name').execute()).map(({ name }) => name),
      ['other'],
    );
    await still.destroy();
    await other.destroy();
  });

  test('a database that another installation has used is refused, and stays as it is', async () => {
    const databaseUrl = await server.createDatabase();
    const db = await openStore({ databaseUrl });
    await requireOwnDatabase(db, 'seed one');
    await requireOwnDatabase(db, 'seed one');
    await assert.rejects(requireOwnDatabase(db, 'seed two'), hasCode('conflict'));
    await requireOwnDatabase(db, 'seed one');
    await db.destroy();
  });

  test('a further server gets the secrets with the password of the database, and nobody without it', async () => {
    const databaseUrl = await server.createDatabase();
    const make = () => ({
      apiKey: `e2b_${randomBytes(20).toString('hex')}`,
      adminToken: randomBytes(32).toString('hex'),
      tokenSeed: randomBytes(32).toString('hex'),
    });
    // Of several that start at once on an empty database all have those of one.
    const [first, ...others] = await Promise.all([1, 2, 3].map(() => joinInstallation(databaseUrl, undefined, make)));
    assert.ok(first);
    for (const other of others) assert.deepEqual(other, first);
    assert.deepEqual(await joinInstallation(databaseUrl, first, make), first);
    const db = await openStore({ databaseUrl });
    const dump = JSON.stringify(await db.selectFrom('installation').selectAll().execute());
    for (const secret of Object.values(first)) assert.ok(!dump.includes(secret));
    await requireOwnDatabase(db, first.tokenSeed);

    await assert.rejects(joinInstallation(databaseUrl, make(), make), hasCode('conflict'));
    // A key that was replaced in the folder is what further ones get.
    const renewed = { ...first, apiKey: make().apiKey };
    assert.deepEqual(await joinInstallation(databaseUrl, renewed, make), renewed);
    assert.deepEqual(await joinInstallation(databaseUrl, undefined, make), renewed);
    // Sealed with a password that is not that of the URL any more: refused, until one that has the secrets starts.
    const [row] = await db.selectFrom('installation').selectAll().execute();
    await db
      .updateTable('installation')
      .set({ sealed_secrets: await sealSecrets(renewed, 'another password', row?.mark ?? '') })
      .execute();
    await assert.rejects(joinInstallation(databaseUrl, undefined, make), (error: Error) => {
      return hasCode('conflict')(error) && /token-seed, api-key and admin-token/.test(error.message);
    });
    await joinInstallation(databaseUrl, renewed, make);
    assert.deepEqual(await joinInstallation(databaseUrl, undefined, make), renewed);
    await db.updateTable('installation').set({ sealed_secrets: null }).execute();
    await assert.rejects(joinInstallation(databaseUrl, undefined, make), hasCode('conflict'));
    await db.destroy();
  });

  test('text sorts by its bytes, whatever the order of the database is', async () => {
    const db = await openStore({ databaseUrl: await server.createDatabase() });
    const { rows } = await sql<{ table_name: string; column_name: string; collation_name: string | null }>`
      select table_name, column_name, collation_name from information_schema.columns
      where table_schema = current_schema() and data_type = 'text'`.execute(db);
    assert.ok(rows.length > 20);
    assert.deepEqual(
      rows.filter(({ collation_name }) => collation_name !== 'C'),
      [],
    );
    await db.destroy();
  });

  test('a text that PostgreSQL cannot hold is the fault of who sent it', async () => {
    const db = await openStore({ databaseUrl: await server.createDatabase() });
    await assert.rejects(
      db.selectFrom('teams').select('id').where('name', '=', 'a\0b').execute(),
      hasCode('invalid_request'),
    );
    await db.destroy();
  });

  test('an address that is none, and a database that cannot be reached, are told without the password', async () => {
    const told = async (databaseUrl: string) => {
      const error = await openStore({ databaseUrl }).then(
        () => assert.fail('it opened'),
        (reason: unknown) => reason,
      );
      assert.ok(error instanceof NestboxError);
      assert.doesNotMatch(`${error.message} ${error.stack} ${String(error.cause)}`, /hunter2/);
      return error.code;
    };
    assert.equal(await told('mysql://u:hunter2@localhost/x'), 'invalid_request');
    assert.equal(await told('postgres://u:hunter2@[/x'), 'invalid_request');
    assert.equal(await told('hunter2'), 'invalid_request');
    assert.equal(await told('postgres://u:hunter2@127.0.0.1:1/x'), 'database_unavailable');
    assert.equal(await told('postgres://u:hunter2@localhost/x?host=/nowhere'), 'database_unavailable');
    const real = new URL(await server.createDatabase());
    real.password = 'hunter2';
    assert.equal(await told(real.href), 'database_unavailable');
    real.password = new URL(await server.createDatabase()).password;
    real.pathname = '/not_there';
    assert.equal(await told(real.href), 'database_unavailable');
  });

  test('statements fail while the database is down, and succeed when it is back', async () => {
    const db = await openStore({ databaseUrl: await server.createDatabase() });
    const look = () => db.selectFrom('teams').selectAll().execute();
    await look();
    await server.suspend();
    await assert.rejects(look(), hasCode('database_unavailable'));
    await server.resume();
    // A connection at rest may not have heard of it yet.
    await look().catch(look);
    await db.destroy();
  });
});
