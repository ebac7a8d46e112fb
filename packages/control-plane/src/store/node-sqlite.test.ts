import assert from 'node:assert/strict';
import { chmod, cp, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { NestboxError } from '@nestbox/contract';
import { type Kysely, sql } from 'kysely';
import { describeRepositories } from '../testing/repository-suite.ts';
import { MIGRATIONS, migrate } from './migrate.ts';
import { openSqlite } from './node-sqlite.ts';
import { openStore } from './open-store.ts';

describeRepositories({ name: 'node:sqlite', open: () => openSqlite(':memory:') });

async function withFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'nestbox-store-'));
  try {
    await use(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

const hasCode = (code: string) => (error: unknown) => error instanceof NestboxError && error.code === code;

describe('openStore', () => {
  test('keeps what was written over a close', () =>
    withFolder(async (folder) => {
      const path = join(folder, 'control-plane.db');
      const first = await openStore({ databasePath: path });
      await first
        .insertInto('template_usage')
        .values({ team_id: 'x', template_id: 't', spawn_count: 3, last_spawned_at_ms: 1 })
        .execute();
      await first.destroy();
      const second = await openStore({ databasePath: path });
      assert.equal((await second.selectFrom('template_usage').selectAll().execute())[0]?.spawn_count, 3);
      await second.destroy();
    }));

  test('tells a full disk as such, and goes on when there is room', () =>
    withFolder(async (folder) => {
      const store = await openStore({ databasePath: join(folder, 'control-plane.db') });
      const use = (teamId: string) =>
        store
          .insertInto('template_usage')
          .values({ team_id: teamId, template_id: 'x'.repeat(100_000), spawn_count: 1, last_spawned_at_ms: 1 })
          .execute();
      const { rows } = await sql<{ page_count: number }>`PRAGMA page_count`.execute(store);
      const pages = rows[0]?.page_count ?? 0;
      await sql`PRAGMA max_page_count=${sql.lit(pages + 5)}`.execute(store);
      await assert.rejects(use('one'), hasCode('host_disk_full'));
      await sql`PRAGMA max_page_count=${sql.lit(pages + 500)}`.execute(store);
      await use('one');
      assert.equal((await store.selectFrom('template_usage').selectAll().execute()).length, 1);
      await store.destroy();
    }));

  test('is readable by nobody else, also when an older version made it', () =>
    withFolder(async (folder) => {
      const path = join(folder, 'nestbox.db');
      const modes = async () => {
        const files = await Promise.all([path, `${path}-wal`].map((file) => stat(file)));
        return files.map(({ mode }) => mode & 0o777);
      };
      const db = await openStore({ databasePath: path });
      assert.deepEqual(await modes(), [0o600, 0o600]);
      await cp(path, join(folder, 'older.db'));
      await cp(`${path}-wal`, join(folder, 'older.db-wal'));
      await db.destroy();
      const older = join(folder, 'older.db');
      for (const file of [older, `${older}-wal`]) await chmod(file, 0o644);
      const again = await openStore({ databasePath: older });
      for (const file of [older, `${older}-wal`]) assert.equal((await stat(file)).mode & 0o777, 0o600, file);
      await again.destroy();
    }));

  test('refuses a second server on the same file, and lets it in when the first has gone', () =>
    withFolder(async (folder) => {
      const path = join(folder, 'control-plane.db');
      const first = await openStore({ databasePath: path });
      await assert.rejects(openStore({ databasePath: path }), hasCode('state_dir_in_use'));
      await first.destroy();
      await (await openStore({ databasePath: path })).destroy();
    }));

  test('refuses a file that is no database, and a folder that is not there', () =>
    withFolder(async (folder) => {
      const path = join(folder, 'text');
      await writeFile(path, 'this is not a database, but long enough to look like one'.repeat(100));
      await assert.rejects(openStore({ databasePath: path }), hasCode('not_set_up'));
      await assert.rejects(openStore({ databasePath: join(folder, 'missing', 'x.db') }), hasCode('not_set_up'));
    }));
});

describe('migrate', () => {
  test('may run again and again', async () => {
    const db = openSqlite(':memory:');
    await migrate(db);
    await migrate(db);
    await db.destroy();
  });

  test('refuses a database that a newer version has touched, and changes nothing in it', async () => {
    const db = openSqlite(':memory:');
    const newer = {
      ...MIGRATIONS,
      '9999-from-the-future': {
        up: (trx: Kysely<unknown>) => trx.schema.createTable('hover_cars').addColumn('id', 'text').execute(),
      },
    };
    await migrate(db, newer);
    await assert.rejects(
      migrate(db),
      (error) => hasCode('conflict')(error) && /9999-from-the-future/.test(String(error)),
    );
    const tables = await db.introspection.getTables();
    assert.ok(tables.some(({ name }) => name === 'hover_cars'));
    await db.destroy();
  });

  test('a migration that fails leaves the schema as it was', async () => {
    const db = openSqlite(':memory:');
    const broken = {
      '0001-broken': {
        up: async () => {
          throw new Error('no');
        },
      },
    };
    await assert.rejects(migrate(db, broken), hasCode('internal'));
    await migrate(db);
    await db.destroy();
  });
});
