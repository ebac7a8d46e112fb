import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Kysely } from 'kysely';
import { listApiKeyHashes, putApiKey } from '../store/api-key-repository.ts';
import { migrate } from '../store/migrate.ts';
import type { SandboxRecord } from '../store/sandbox-record.ts';
import {
  committedMemoryMib,
  countRunning,
  deleteSandbox,
  extendEnd,
  findSandbox,
  insertSandbox,
  listRunning,
  listSandboxesOfHost,
  markAllStartingAsStopping,
  markRunning,
  markStopping,
  nextDueAtMs,
  postponeStop,
  setEnd,
  takeDue,
} from '../store/sandbox-repository.ts';
import type { Database } from '../store/schema.ts';
import { countSpawn, listTemplateUsage } from '../store/template-usage-repository.ts';

/** A database system that the repositories must work on. */
export interface RepositoryBackend {
  readonly name: string;
  /** An empty database that nobody else uses; it is gone with `destroy()`. */
  open(): Promise<Kysely<Database>> | Kysely<Database>;
}

const T0 = 1_700_000_000_000;

function record(id: string, overrides: Partial<SandboxRecord> = {}): SandboxRecord {
  return {
    id,
    state: 'starting',
    hostId: 'host-1',
    templateId: 'tpl',
    alias: 'base',
    metadata: undefined,
    vcpuCount: 2,
    memoryMib: 512,
    diskMib: 4096,
    envdVersion: '0.6.13',
    createdAtMs: T0,
    startedAtMs: T0,
    endAtMs: T0 + 60_000,
    secure: true,
    allowInternetAccess: undefined,
    allowPublicTraffic: true,
    network: undefined,
    ...overrides,
  };
}

const everything = { metadata: {} };

/** What every backend must do. */
export function describeRepositories(backend: RepositoryBackend): void {
  describe(`repositories on ${backend.name}`, () => {
    async function withDb(use: (db: Kysely<Database>) => Promise<void>): Promise<void> {
      const db = await backend.open();
      try {
        await migrate(db);
        await use(db);
      } finally {
        await db.destroy();
      }
    }

    test('a sandbox comes back as it was stored', () =>
      withDb(async (db) => {
        const plain = record('a');
        const full = record('b', {
          metadata: { 'k "1"': "v'\u{1f600}\n", '': '' },
          alias: undefined,
          secure: false,
          allowInternetAccess: false,
          allowPublicTraffic: false,
          network: { allowPublicTraffic: false, denyOut: ['0.0.0.0/0'] },
        });
        await insertSandbox(db, plain);
        await insertSandbox(db, full);
        assert.deepEqual(await findSandbox(db, 'a'), plain);
        assert.deepEqual(await findSandbox(db, 'b'), full);
        assert.equal(await findSandbox(db, 'c'), undefined);
      }));

    test('a second sandbox with the same id is refused and leaves no metadata', () =>
      withDb(async (db) => {
        await insertSandbox(db, record('a'));
        await assert.rejects(insertSandbox(db, record('a', { metadata: { k: 'v' } })));
        assert.equal((await db.selectFrom('sandbox_metadata').selectAll().execute()).length, 0);
      }));

    test('inside a transaction everything is undone together', () =>
      withDb(async (db) => {
        await assert.rejects(
          db.transaction().execute(async (trx) => {
            await insertSandbox(trx, record('a', { metadata: { k: 'v' } }));
            throw new Error('changed my mind');
          }),
          /changed my mind/,
        );
        assert.equal(await findSandbox(db, 'a'), undefined);
      }));

    test('a state changes only the way that the transition table allows', () =>
      withDb(async (db) => {
        const ready = {
          vcpuCount: 4,
          memoryMib: 1024,
          diskMib: 1,
          envdVersion: '1.0.0',
          startedAtMs: T0 + 5,
          endAtMs: T0 + 9,
        };
        await insertSandbox(db, record('a'));
        assert.equal(await markRunning(db, 'a', ready), true);
        assert.deepEqual(await findSandbox(db, 'a'), record('a', { state: 'running', ...ready }));
        assert.equal(await markRunning(db, 'a', ready), false);
        assert.equal(await markStopping(db, 'a', T0), true);
        assert.equal(await markStopping(db, 'a', T0), false);
        assert.equal(await markRunning(db, 'a', ready), false);
        assert.equal((await findSandbox(db, 'a'))?.state, 'stopping');
        assert.equal(await markStopping(db, 'none', T0), false);
      }));

    test('what was starting is stopping after a restart, and nothing else changes', () =>
      withDb(async (db) => {
        await insertSandbox(db, record('a'));
        await insertSandbox(db, record('b', { state: 'running' }));
        assert.equal(await markAllStartingAsStopping(db, T0), 1);
        assert.equal((await findSandbox(db, 'a'))?.state, 'stopping');
        assert.equal((await findSandbox(db, 'b'))?.state, 'running');
      }));

    test('the end of a running sandbox moves both ways when set, and only later when extended', () =>
      withDb(async (db) => {
        await insertSandbox(db, record('a', { state: 'running', endAtMs: T0 + 100 }));
        const endAtMs = async () => (await findSandbox(db, 'a'))?.endAtMs;
        assert.equal(await extendEnd(db, 'a', T0 + 50), true);
        assert.equal(await endAtMs(), T0 + 100);
        assert.equal(await extendEnd(db, 'a', T0 + 200), true);
        assert.equal(await endAtMs(), T0 + 200);
        assert.equal(await setEnd(db, 'a', T0 + 10), true);
        assert.equal(await endAtMs(), T0 + 10);
        await markStopping(db, 'a', T0);
        assert.equal(await setEnd(db, 'a', T0 + 10), false);
        assert.equal(await extendEnd(db, 'a', T0 + 10), false);
      }));

    test('due are running and stopping sandboxes at their end, the longest due first', () =>
      withDb(async (db) => {
        assert.equal(await nextDueAtMs(db), undefined);
        await insertSandbox(db, record('later', { state: 'running', endAtMs: T0 + 20 }));
        await insertSandbox(db, record('first', { state: 'running', endAtMs: T0 + 1 }));
        await insertSandbox(db, record('starting', { endAtMs: T0 }));
        await insertSandbox(db, record('stopping', { state: 'stopping', endAtMs: T0 + 5 }));
        assert.equal(await nextDueAtMs(db), T0 + 1);
        assert.deepEqual(await takeDue(db, T0, T0 + 99, 10), []);
        assert.deepEqual(await takeDue(db, T0 + 5, T0 + 99, 1), ['first']);
        assert.equal((await findSandbox(db, 'first'))?.state, 'stopping');
        assert.deepEqual(await takeDue(db, T0 + 5, T0 + 99, 10), ['stopping'], 'nothing is taken twice');
        assert.equal(await nextDueAtMs(db), T0 + 20);
        await postponeStop(db, 'stopping', T0 + 10);
        await postponeStop(db, 'later', T0 + 10);
        assert.deepEqual(await takeDue(db, T0 + 10, T0 + 99, 10), ['stopping']);
      }));

    test('deleting takes the metadata along and tells whether there was something', () =>
      withDb(async (db) => {
        await insertSandbox(db, record('a', { metadata: { k: 'v' } }));
        assert.equal(await deleteSandbox(db, 'a'), true);
        assert.equal(await deleteSandbox(db, 'a'), false);
        assert.equal((await db.selectFrom('sandbox_metadata').selectAll().execute()).length, 0);
      }));

    test('lists filter by every pair of metadata, by template id or name, and by start', () =>
      withDb(async (db) => {
        const running = (id: string, overrides: Partial<SandboxRecord>) =>
          insertSandbox(db, record(id, { state: 'running', ...overrides }));
        await running('a', { metadata: { app: 'x', env: 'prod' } });
        await running('b', { metadata: { app: 'x', env: 'dev' }, startedAtMs: T0 + 10 });
        await running('c', { metadata: { app: 'env' }, templateId: 'other', alias: undefined });
        await insertSandbox(db, record('d', { metadata: { app: 'x' } }));
        const ids = async (filter: Parameters<typeof listRunning>[1]) => {
          const found = await listRunning(db, filter, { order: 'asc', limit: 10 });
          assert.equal(await countRunning(db, filter), found.length);
          return found.map(({ id }) => id).join();
        };
        assert.equal(await ids(everything), 'a,c,b');
        assert.equal(await ids({ metadata: { app: 'x' } }), 'a,b');
        assert.equal(await ids({ metadata: { app: 'x', env: 'dev' } }), 'b');
        assert.equal(await ids({ metadata: { env: 'x' } }), '');
        assert.equal(await ids({ metadata: {}, template: 'base' }), 'a,b');
        assert.equal(await ids({ metadata: {}, template: 'other' }), 'c');
        assert.equal(await ids({ metadata: {}, startedAfterMs: T0 + 10 }), 'b');
        assert.equal(await ids({ metadata: {}, startedAfterMs: T0 + 11 }), '');
        assert.equal(await ids({ metadata: { "' or 1=1 --": '' } }), '');
      }));

    test('paging sees everything once in both orders while sandboxes come and go, also with equal starts', () =>
      withDb(async (db) => {
        const ids = ['a', 'b', 'c', 'd', 'e', 'f', 'g'];
        for (const [index, id] of ids.entries())
          await insertSandbox(db, record(id, { state: 'running', startedAtMs: T0 + Math.floor(index / 3) }));
        for (const order of ['asc', 'desc'] as const) {
          const seen: string[] = [];
          let after: { startedAtMs: number; id: string } | undefined;
          for (;;) {
            const page = await listRunning(db, everything, { order, after, limit: 2 });
            if (page.length === 0) break;
            seen.push(...page.map(({ id }) => id));
            after = page.at(-1);
            // One in front of the page and one that has been seen: neither may shift what follows.
            await insertSandbox(db, record(`new-${order}-${seen.length}`, { startedAtMs: T0 - 1 }));
            await deleteSandbox(db, `new-${order}-${seen.length}`);
          }
          assert.deepEqual(seen, order === 'asc' ? ids : ids.toReversed());
        }
      }));

    test('memory is counted by host, whatever the state', () =>
      withDb(async (db) => {
        await insertSandbox(db, record('a'));
        await insertSandbox(db, record('b', { state: 'running', memoryMib: 100 }));
        await insertSandbox(db, record('c', { hostId: 'host-2', memoryMib: 7 }));
        assert.deepEqual(
          await committedMemoryMib(db),
          new Map([
            ['host-1', 612],
            ['host-2', 7],
          ]),
        );
        assert.deepEqual(
          (await listSandboxesOfHost(db, 'host-2')).map(({ id }) => id),
          ['c'],
        );
      }));

    test('uses of a template are counted', () =>
      withDb(async (db) => {
        await countSpawn(db, 'tpl', T0);
        await countSpawn(db, 'tpl', T0 + 5);
        assert.deepEqual((await listTemplateUsage(db)).get('tpl'), { spawnCount: 2, lastSpawnedAtMs: T0 + 5 });
      }));

    test('a key is stored as a hash and replaced under its id', () =>
      withDb(async (db) => {
        await putApiKey(db, { id: 'one', name: 'one', key_hash: 'aa', created_at_ms: T0 });
        await putApiKey(db, { id: 'one', name: 'one', key_hash: 'bb', created_at_ms: T0 });
        assert.deepEqual(await listApiKeyHashes(db), ['bb']);
      }));
  });
}
