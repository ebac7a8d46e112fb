import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { NestboxError } from '@nestbox/contract';
import { createLogger } from '@nestbox/kit';
import type { Kysely } from 'kysely';
import { Leases, type LeasesOptions } from './leases.ts';
import { hostLease, serverLease, takeLease } from './store/lease-repository.ts';
import { openStore } from './store/open-store.ts';
import type { Database } from './store/schema.ts';
import { until } from './testing/api-answers.ts';
import { type PostgresServer, postgresMissing, startPostgres } from './testing/postgres-server.ts';

const TTL_MS = 1000;
const hasCode = (code: string) => (error: unknown) => error instanceof NestboxError && error.code === code;

function leasesOf(db: Kysely<Database>, options: Partial<LeasesOptions> = {}): Leases {
  return new Leases({
    db,
    logger: createLogger({ level: 'silent' }),
    ttlMs: TTL_MS,
    hosts: () => [{ id: 'h', reaches: true }],
    onGained: () => {},
    onRenewed: async () => {},
    onTime: () => {},
    ...options,
  });
}

const rename = (name: string) => (db: Kysely<Database>) => db.updateTable('teams').set({ name }).execute();
const teamName = async (db: Kysely<Database>) =>
  (await db.selectFrom('teams').select('name').executeTakeFirstOrThrow()).name;
/** As if its time had run out. */
const expire = (db: Kysely<Database>, hostId: string) =>
  db.updateTable('leases').set({ expires_at_ms: 0 }).where('name', '=', hostLease(hostId)).execute();

test('on SQLite every lease is held from the first moment on and for ever, and nothing is renewed', async () => {
  const db = await openStore({ databasePath: ':memory:' });
  const first = leasesOf(db);
  await first.begin();
  // As after a crash: nothing was given back.
  const second = leasesOf(db, { ttlMs: 1 });
  await second.begin();
  await new Promise((resolve) => setTimeout(resolve, 50));
  second.requireAlive();
  assert.deepEqual(second.heldHosts(), ['h']);
  assert.equal(second.mayJudge(), true);
  await second.writer('h')?.(rename('second'));
  await assert.rejects(async () => first.writer('h')?.(rename('first')), hasCode('conflict'));
  assert.equal(await teamName(db), 'second');
  assert.equal(await second.isAlive(first.serverId), false);
  await second[Symbol.asyncDispose]();
  await db.destroy();
});

describe('leases on PostgreSQL', { skip: postgresMissing() }, () => {
  let postgres: PostgresServer;
  const started = new AsyncDisposableStack();
  before(async () => {
    postgres = await startPostgres();
    started.defer(() => postgres.stop());
  });
  after(() => started.disposeAsync());

  test('what was begun under a lease is written under no later one, not even of the same server', async () => {
    const db = await openStore({ databaseUrl: await postgres.createDatabase() });
    const first = leasesOf(db, { ttlMs: 600_000 });
    await first.begin();
    const stale = first.writer('h');
    assert.ok(stale);
    await stale(rename('first'));
    await expire(db, 'h');
    await assert.rejects(stale(rename('expired')), hasCode('conflict'));
    const second = leasesOf(db);
    await second.begin();
    await assert.rejects(stale(rename('stale')), hasCode('conflict'));
    assert.deepEqual(await first.withHeldHosts(async (_trx, hostIds) => hostIds), []);
    assert.deepEqual(await second.withHeldHosts(async (_trx, hostIds) => hostIds), ['h']);
    await second.writer('h')?.(rename('second'));
    await second[Symbol.asyncDispose]();
    assert.equal(second.writer('h'), undefined);
    assert.equal(await first.isAlive(second.serverId), false);
    await first.begin();
    await assert.rejects(stale(rename('stale')), hasCode('conflict'));
    assert.equal(await teamName(db), 'second');
    await first.writer('h')?.(rename('first again'));
    assert.equal(await teamName(db), 'first again');
    await first[Symbol.asyncDispose]();
    await db.destroy();
  });

  test('nobody gets a lease in the middle of what its holder writes', async () => {
    const db = await openStore({ databaseUrl: await postgres.createDatabase() });
    const first = leasesOf(db, { ttlMs: 600_000 });
    const second = leasesOf(db, { ttlMs: 600_000 });
    await first.begin();
    const steps: string[] = [];
    const { promise: written, resolve: goOn } = Promise.withResolvers<void>();
    const { promise: begun, resolve: hasBegun } = Promise.withResolvers<void>();
    const writing = first.writer('h')?.(async (trx) => {
      await rename('first')(trx);
      hasBegun();
      await written;
      steps.push('written');
    });
    await begun;
    const taking = expire(db, 'h')
      .then(() => second.begin())
      .then(() => steps.push('taken'));
    await new Promise((resolve) => setTimeout(resolve, 300));
    assert.deepEqual(steps, []);
    goOn();
    await Promise.all([writing, taking]);
    assert.deepEqual(steps, ['written', 'taken']);
    assert.deepEqual(second.heldHosts(), ['h']);
    await first[Symbol.asyncDispose]();
    await second[Symbol.asyncDispose]();
    await db.destroy();
  });

  test('a server that is cut off from the database stops acting, and calls nobody dead for a while afterwards', async () => {
    const db = await openStore({ databaseUrl: await postgres.createDatabase() });
    const leases = leasesOf(db);
    await leases.begin();
    leases.requireAlive();
    assert.deepEqual(leases.heldHosts(), ['h']);
    await postgres.suspend();
    const begunMs = performance.now();
    await until(() => leases.heldHosts().length === 0);
    assert.ok(performance.now() - begunMs < TTL_MS + 500);
    assert.throws(() => leases.requireAlive(), hasCode('database_unavailable'));
    assert.equal(leases.writer('h'), undefined);
    await postgres.resume();
    await until(() => leases.heldHosts().length === 1);
    leases.requireAlive();
    assert.equal(leases.mayJudge(), false);
    assert.equal(await leases.isAlive('somebody who could not say so'), true);
    await until(() => leases.mayJudge());
    assert.equal(await leases.isAlive('somebody who could not say so'), false);
    await leases[Symbol.asyncDispose]();
    await db.destroy();
  });

  test('a host of this process that another server has too is refused, and not one whose server was killed', async () => {
    const db = await openStore({ databaseUrl: await postgres.createDatabase() });
    const first = leasesOf(db);
    await first.begin();
    const copy = leasesOf(db);
    await copy.begin();
    await assert.rejects(copy.requireOwn('h'), hasCode('conflict'));
    await copy[Symbol.asyncDispose]();
    await first[Symbol.asyncDispose]();
    // Killed: it has the lease, and says nothing any more.
    const killed = { holder: 'killed', expires_at_ms: Date.now() + 600_000 };
    await db.updateTable('leases').set(killed).where('name', '=', hostLease('h')).execute();
    const next = leasesOf(db);
    await next.begin();
    await next.requireOwn('h');
    assert.deepEqual(next.heldHosts(), []);
    await expire(db, 'h');
    await until(() => next.heldHosts().length === 1);
    await next[Symbol.asyncDispose]();
    // Killed on this machine: whoever starts here knows it at once.
    const [bootId, namespace] = next.serverId.split('.');
    const dead = { holder: [bootId, namespace, 2 ** 22 + 1, 1, 'ab'].join('.'), expires_at_ms: Date.now() + 600_000 };
    await db.updateTable('leases').set(dead).where('name', '=', hostLease('h')).execute();
    await takeLease(db, { name: serverLease(dead.holder), holder: dead.holder, reaches: true, ttlMs: 600_000 });
    const again = leasesOf(db);
    await again.begin();
    assert.deepEqual(again.heldHosts(), ['h']);
    await again.requireOwn('h');
    assert.equal(await again.isAlive(dead.holder), false);
    await again[Symbol.asyncDispose]();
    await db.destroy();
  });
});
