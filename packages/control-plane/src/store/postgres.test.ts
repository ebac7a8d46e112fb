import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { NestboxError } from '@nestbox/contract';
import { sql } from 'kysely';
import { requireOwnDatabase } from '../service/own-database.ts';
import { type PostgresServer, postgresMissing, startPostgres } from '../testing/postgres-server.ts';
import { describeRepositories } from '../testing/repository-suite.ts';
import { MIGRATIONS, migrate } from './migrate.ts';
import { openStore } from './open-store.ts';
import { openPostgres } from './postgres.ts';

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

  test('a second server is refused, and let in when the first has gone', async () => {
    const databaseUrl = await server.createDatabase();
    const first = await openStore({ databaseUrl });
    await assert.rejects(openStore({ databaseUrl }), hasCode('state_dir_in_use'));
    await first.destroy();
    await (await openStore({ databaseUrl })).destroy();
  });

  test('a server that lost its right to another does nothing more until that has gone', async () => {
    const databaseUrl = await server.createDatabase();
    const first = await openStore({ databaseUrl });
    const look = () => first.selectFrom('teams').selectAll().execute();
    await look();
    const outside = openPostgres(databaseUrl);
    const terminateOthers = () =>
      sql`select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid()`.execute(outside);
    await terminateOthers();
    // Whoever asks first gets it.
    const second = await openStore({ databaseUrl });
    await assert.rejects(look(), hasCode('state_dir_in_use'));
    await second.destroy();
    assert.equal((await look()).length, 1);
    // Its own connections that broke are no other server.
    for (let round = 0; round < 5; round++) {
      await terminateOthers();
      await Promise.all([look().catch(look), look().catch(look)]);
      assert.equal((await look()).length, 1);
    }
    await first.destroy();
    await outside.destroy();
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
