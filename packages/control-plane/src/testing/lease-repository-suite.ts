import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { Kysely } from 'kysely';
import {
  dropDeadServers,
  giveBackLeases,
  hostLease,
  lockHostsOf,
  lockLease,
  readDatabaseTime,
  serverLease,
  takeLease,
} from '../store/lease-repository.ts';
import type { Database } from '../store/schema.ts';
import { type RepositoryBackend, withDatabase } from './repository-backend.ts';

const LONG_MS = 600_000;
const SHORT_MS = 20;

/** What every backend must do with leases. */
export function describeLeaseRepository(backend: RepositoryBackend): void {
  describe(`leases on ${backend.name}`, () => {
    const withDb = (use: (db: Kysely<Database>) => Promise<void>) => withDatabase(backend, use);
    const name = hostLease('h');
    const take = (db: Kysely<Database>, holder: string, ttlMs: number | undefined = LONG_MS, reaches = true) =>
      takeLease(db, { name, holder, reaches, ttlMs });

    test('one has it; its token grows when another one gets it, and never when it is renewed', () =>
      withDb(async (db) => {
        assert.equal(await take(db, 'a', SHORT_MS), 1);
        assert.equal(await take(db, 'a', SHORT_MS), 1);
        await delay(SHORT_MS + 10);
        assert.equal(await take(db, 'b'), 2);
        assert.equal(await take(db, 'a'), undefined);
        assert.equal(await lockLease(db, name, 'a', 1), false);
        assert.equal(await lockLease(db, name, 'b', 2), true);
        await giveBackLeases(db, 'a');
        assert.equal(await take(db, 'a'), undefined);
        await giveBackLeases(db, 'b');
        assert.equal(await lockLease(db, name, 'b', 2), false);
        assert.equal(await take(db, 'a'), 3);
      }));

    test('whoever reaches the host gets it from one that does not, and nobody else does', () =>
      withDb(async (db) => {
        assert.equal(await take(db, 'a', LONG_MS, false), 1);
        assert.equal(await take(db, 'b', LONG_MS, false), undefined);
        assert.equal(await take(db, 'b', LONG_MS, true), 2);
        assert.equal(await take(db, 'a', LONG_MS, true), undefined);
        assert.equal(await take(db, 'b', LONG_MS, false), 2);
        assert.equal(await take(db, 'a', LONG_MS, true), 3);
      }));

    test('of several that ask at once one gets it', () =>
      withDb(async (db) => {
        const tokens = await Promise.all(['a', 'b', 'c', 'd', 'e'].map((holder) => take(db, holder)));
        assert.deepEqual(
          tokens.filter((token) => token !== undefined),
          [1],
        );
      }));

    test('who is alone gets it at once and for ever', () =>
      withDb(async (db) => {
        assert.equal(await take(db, 'a'), 1);
        assert.equal(await takeLease(db, { name, holder: 'b', reaches: false, ttlMs: undefined }), 2);
        assert.deepEqual(await lockHostsOf(db, 'b'), ['h']);
      }));

    test('what has run out is not held, and servers that have not said that they live are forgotten', () =>
      withDb(async (db) => {
        await take(db, 'a', SHORT_MS);
        await takeLease(db, { name: hostLease('x/y'), holder: 'a', reaches: true, ttlMs: LONG_MS });
        for (const [holder, ttlMs] of [
          ['a', LONG_MS],
          ['dead', SHORT_MS],
          ['other', LONG_MS],
        ] as const)
          await takeLease(db, { name: serverLease(holder), holder, reaches: true, ttlMs });
        await delay(SHORT_MS + 10);
        assert.deepEqual(await lockHostsOf(db, 'a'), ['x/y']);
        assert.equal(await lockLease(db, name, 'a', 1), false);
        const servers = async () =>
          (
            await db.selectFrom('leases').select('holder').where('name', 'like', 'server/%').orderBy('name').execute()
          ).map(({ holder }) => holder);
        await dropDeadServers(db, 'a', false);
        assert.deepEqual(await servers(), ['a', 'other']);
        await dropDeadServers(db, 'a', true);
        assert.deepEqual(await servers(), ['a']);
      }));

    test('the time is told in milliseconds and goes on', () =>
      withDb(async (db) => {
        const before = await readDatabaseTime(db);
        assert.ok(Math.abs(before - Date.now()) < 60_000, String(before));
        await db.transaction().execute(async (trx) => {
          const begun = await readDatabaseTime(trx);
          await delay(SHORT_MS);
          assert.ok((await readDatabaseTime(trx)) > begun);
        });
      }));
  });
}
