import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { NestboxError } from '@nestbox/contract';
import { createLogger } from '@nestbox/kit';
import type { Kysely } from 'kysely';
import { dropDeadServers, findLease, takeLease, turnLease } from './store/lease-repository.ts';
import { openStore } from './store/open-store.ts';
import type { Database } from './store/schema.ts';
import { type PostgresServer, postgresMissing, startPostgres } from './testing/postgres-server.ts';
import { Turns } from './turns.ts';

const TTL_MS = 400;

function turnsOf(db: Kysely<Database>, serverId: string, stopping = new AbortController().signal): Turns {
  return new Turns({ db, serverId, ttlMs: TTL_MS, stopping, logger: createLogger({ level: 'silent' }) });
}

/** Runs work at each of them at once and answers the most that ran at the same time. */
async function mostAtOnce(turns: readonly Turns[], key: (index: number) => string, tookMs: number): Promise<number> {
  let running = 0;
  let most = 0;
  await Promise.all(
    turns.map((each, index) =>
      each.run(key(index), async () => {
        running += 1;
        most = Math.max(most, running);
        await delay(tookMs);
        running -= 1;
      }),
    ),
  );
  return most;
}

test('on SQLite, which is one server’s own, turns are taken within the server', async () => {
  const db = await openStore({ databasePath: ':memory:' });
  const turns = turnsOf(db, 'a');
  assert.equal(await mostAtOnce([turns, turns, turns], () => 'key', 5), 1);
  assert.equal(await mostAtOnce([turns, turns], String, 50), 2, 'those of other keys run side by side');
  assert.equal(await findLease(db, turnLease('key')), undefined);
  await db.destroy();
});

describe('turns on PostgreSQL', { skip: postgresMissing() }, () => {
  let postgres: PostgresServer;
  let db: Kysely<Database>;
  const started = new AsyncDisposableStack();
  before(async () => {
    postgres = await startPostgres();
    started.defer(() => postgres.stop());
    db = await openStore({ databaseUrl: await postgres.createDatabase() });
    started.defer(() => db.destroy());
  });
  after(() => started.disposeAsync());

  test('are taken one after the other by all servers, also by work that is longer than a lease', async () => {
    const [a, b] = [turnsOf(db, 'a'), turnsOf(db, 'b')];
    assert.equal(await mostAtOnce([a, b, a, b], () => 'key', 2 * TTL_MS), 1);
    assert.equal(await mostAtOnce([a, b], String, 500), 2, 'those of other keys run side by side');
    assert.equal(await findLease(db, turnLease('key')), undefined, 'nothing is left of it');
  });

  test('come to the next one when work fails, and when its server died', async () => {
    const [a, b] = [turnsOf(db, 'a'), turnsOf(db, 'b')];
    const failed = a.run('key', () => Promise.reject(new Error('no')));
    await assert.rejects(failed, /no/);
    assert.equal(await b.run('key', async () => 1), 1);
    await takeLease(db, { name: turnLease('key'), holder: 'dead', reaches: true, ttlMs: TTL_MS });
    const beganMs = performance.now();
    await a.run('key', async () => assert.ok(performance.now() - beganMs > TTL_MS / 2));
  });

  test('end with the server that waits for one, and those of dead ones are forgotten', async () => {
    await takeLease(db, { name: turnLease('key'), holder: 'other', reaches: true, ttlMs: 60_000 });
    await takeLease(db, { name: turnLease('old'), holder: 'dead', reaches: true, ttlMs: 1 });
    const stopping = new AbortController();
    const waiting = turnsOf(db, 'a', stopping.signal).run('key', async () => {});
    setTimeout(() => stopping.abort(), 50);
    await assert.rejects(waiting, (error) => error instanceof NestboxError && error.code === 'host_unavailable');
    await dropDeadServers(db, 'a', false);
    assert.equal((await findLease(db, turnLease('key')))?.holder, 'other');
    assert.equal(await findLease(db, turnLease('old')), undefined);
  });
});
