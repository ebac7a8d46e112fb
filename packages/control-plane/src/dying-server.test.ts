import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { Kysely } from 'kysely';
import { pageAuditEntries } from './store/audit-repository.ts';
import { openStore } from './store/open-store.ts';
import type { Database } from './store/schema.ts';
import { EVERY_TEAM } from './store/team-scope.ts';
import { createSandbox, listIds } from './testing/api-answers.ts';
import { type Daemon, HOST_TOKEN, listenAsHost, startDaemon } from './testing/daemon.ts';
import { HostDouble } from './testing/host-double.ts';
import { type PostgresServer, postgresMissing, startPostgres } from './testing/postgres-server.ts';
import { startTestServer, TEST_API_KEY, TEST_SEED, type TestServer } from './testing/start-test-server.ts';

/** Long enough for a busy machine, and of a stopped process over soon. */
const LEASE_MS = 4000;
/** A lease, a renewal, and what a transaction that stands still may hold up. */
const TAKEN_OVER_MS = LEASE_MS * 1.25 + 6000;

let postgres: PostgresServer;
const started = new AsyncDisposableStack();

interface Scene extends AsyncDisposable {
  readonly host: HostDouble;
  /** The one that looks after the host at first: a process of its own. */
  readonly first: Daemon;
  readonly second: TestServer;
  readonly db: Kysely<Database>;
  /** Asks the first. */
  send(method: string, path: string, body?: unknown): Promise<Response>;
}

async function open(): Promise<Scene> {
  await using undo = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), 'nestbox-servers-'));
  undo.defer(() => rm(folder, { recursive: true, force: true }));
  const host = undo.use(await new HostDouble('shared').open());
  const { url, server } = await listenAsHost(host);
  undo.defer(() => {
    server.closeAllConnections();
    server.close();
  });
  const database = { databaseUrl: await postgres.createDatabase() };
  const db = await openStore(database);
  undo.defer(() => db.destroy());
  const configPath = join(folder, 'config.json');
  const config = {
    databasePath: join(folder, 'unused.db'),
    apiKey: TEST_API_KEY,
    tokenSeed: TEST_SEED.padEnd(32, '.'),
    api: { host: '127.0.0.1', port: 0 },
    edge: { host: '127.0.0.1', port: 0 },
    leaseMs: LEASE_MS,
    hosts: [{ id: 'shared', url, token: HOST_TOKEN, proxy: { socketPath: host.proxySocketPath } }],
  };
  await writeFile(configPath, JSON.stringify(config));
  const first = await startDaemon(configPath, { ...process.env, DATABASE_URL: database.databaseUrl });
  undo.defer(async () => {
    if (first.child.exitCode !== null || first.child.signalCode !== null) return;
    const exited = once(first.child, 'exit');
    first.child.kill('SIGKILL');
    await exited;
  });
  const lease = () => db.selectFrom('leases').selectAll().where('name', '=', 'host/shared').executeTakeFirst();
  // From then on the second one does not get it because it would reach the host while the first does not.
  await soon('the first has said that it reaches the host', async () => (await lease())?.reaches === 1);
  const { tokenSeed } = config;
  const second = await startTestServer([], { database, tokenSeed, leaseMs: LEASE_MS, hosts: [host.connection] });
  undo.defer(() => second.stop());
  assert.equal((await lease())?.token, 1);
  const disposal = undo.move();
  return {
    host,
    first,
    second,
    db,
    send: (method, path, body) =>
      fetch(first.apiUrl + path, {
        method,
        headers: { 'X-API-Key': TEST_API_KEY, ...(body === undefined ? {} : { 'Content-Type': 'application/json' }) },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      }),
    [Symbol.asyncDispose]: () => disposal.disposeAsync(),
  };
}

/** Resolves when it is so; rejects after the time in which another server has to have taken over. */
async function soon(what: string, condition: () => Promise<boolean> | boolean): Promise<void> {
  const endMs = performance.now() + TAKEN_OVER_MS;
  while (!(await condition())) {
    assert.ok(performance.now() < endMs, `not within ${TAKEN_OVER_MS} ms: ${what}`);
    await delay(50);
  }
}

const rows = (db: Kysely<Database>) => db.selectFrom('sandboxes').selectAll().orderBy('id').execute();
const newSandbox = { templateID: 'base', timeout: 600 };

describe('a server that dies beside another one', { skip: postgresMissing() }, () => {
  before(async () => {
    postgres = await startPostgres();
    started.defer(() => postgres.stop());
  });
  after(() => started.disposeAsync());

  test('SIGKILL in the middle of a create and of a pause, and before an end: the other one finishes all three', async () => {
    await using scene = await open();
    const { host, first, second, db, send } = scene;
    const kept = await createSandbox(second, { timeout: 600 });
    const paused = await createSandbox(second, { timeout: 600 });
    const due = await createSandbox(second, { timeout: 3 });
    const openPause = host.snapshots.pauseGate.close();
    const pausing = assert.rejects(send('POST', `/sandboxes/${paused}/pause`, {}));
    await host.until(() => host.snapshots.pauses.length === 1);
    const creates = host.created.length;
    const letCreate = Promise.withResolvers<void>();
    host.createGate = letCreate.promise;
    const creating = assert.rejects(send('POST', '/v2/sandboxes', newSandbox));
    await host.until(() => host.created.length === creates + 1);
    const unfinished = host.created.at(-1)?.sandboxId ?? '';
    const exited = once(first.child, 'exit');
    first.child.kill('SIGKILL');
    await Promise.all([exited, creating, pausing]);
    // Its hosts go on with what they were asked for.
    host.addUnasked(unfinished, true);
    openPause();
    assert.ok(!host.destroyed.includes(unfinished));

    await soon('the create is undone', () => host.destroyed.includes(unfinished));
    await soon('what was due is ended', () => host.destroyed.includes(due));
    await soon('the pause has come to its end', async () => {
      const row = (await rows(db)).find(({ id }) => id === paused);
      return row?.state === 'paused' && row.owner === null;
    });
    await soon('nothing else is left', async () => (await rows(db)).length === 2);
    assert.deepEqual(new Set(await listIds(second)), new Set([kept, paused]));
    assert.deepEqual(new Set(host.destroyed), new Set([unfinished, due]));
    const entries = await pageAuditEntries(db, { scope: EVERY_TEAM, actor: 'system' }, { limit: 10 });
    assert.deepEqual(
      new Map(entries.map(({ operation, targets, reason }) => [targets[0], `${operation}: ${reason}`])),
      new Map([
        [unfinished, 'sandbox.kill: its server died while it was starting'],
        [due, 'sandbox.kill: its time was over'],
        [paused, 'sandbox.pause: its host says that it is paused'],
      ]),
    );
    assert.equal(entries.length, 3);
    const lease = await db.selectFrom('leases').selectAll().where('name', '=', 'host/shared').executeTakeFirst();
    assert.equal(lease?.token, 2);
  });

  test('one that was stopped and wakes up changes nothing that another one has taken over', async () => {
    await using scene = await open();
    const { host, first, second, db, send } = scene;
    const kept = await createSandbox(second, { timeout: 600 });
    const due = await createSandbox(second, { timeout: 3 });
    const openPause = host.snapshots.pauseGate.close();
    const pausing = send('POST', `/sandboxes/${kept}/pause`, {});
    await host.until(() => host.snapshots.pauses.length === 1);
    const creates = host.created.length;
    const letCreate = Promise.withResolvers<void>();
    host.createGate = letCreate.promise;
    const creating = send('POST', '/v2/sandboxes', newSandbox);
    await host.until(() => host.created.length === creates + 1);
    const unfinished = host.created.at(-1)?.sandboxId ?? '';
    first.child.kill('SIGSTOP');
    // Its calls end while it hears nothing.
    openPause();
    letCreate.resolve();
    await host.until(() => host.sandboxes.has(unfinished));

    await soon('the create is undone', () => host.destroyed.includes(unfinished));
    await soon('what was due is ended', () => host.destroyed.includes(due));
    await soon('it can be resumed', async () => {
      const answer = await second.send('POST', `/sandboxes/${kept}/connect`, { timeout: 600 });
      return answer.status === 201;
    });
    await soon('nothing else is left', async () => (await rows(db)).length === 1);
    const before = await rows(db);
    const lease = () => db.selectFrom('leases').selectAll().where('name', '=', 'host/shared').executeTakeFirst();
    const holder = (await lease())?.holder;
    assert.deepEqual([before[0]?.id, before[0]?.state], [kept, 'running']);

    first.child.kill('SIGCONT');
    const [pauseAnswer, createAnswer] = await Promise.all([pausing, creating]);
    assert.deepEqual([pauseAnswer.status, createAnswer.status], [409, 409], await pauseAnswer.text());
    // Some rounds of its leases, in which it would do what it thinks is its own.
    await delay(LEASE_MS);
    assert.deepEqual(await rows(db), before);
    assert.deepEqual([(await lease())?.holder, (await lease())?.token], [holder, 2]);
    assert.equal(host.snapshots.pauses.length, 1);
    // And it is a server like any other again.
    const made = await send('POST', '/v2/sandboxes', newSandbox);
    assert.equal(made.status, 201, await made.text());
    assert.equal((await listIds(second)).length, 2);
  });

  test('one that ends in order gives its hosts back at once', async () => {
    await using scene = await open();
    const { host, first, second } = scene;
    const begunMs = performance.now();
    const exited = once(first.child, 'exit');
    first.child.kill('SIGTERM');
    assert.deepEqual((await exited).slice(0, 1), [0]);
    const due = await createSandbox(second, { timeout: 1 });
    await host.until(() => host.destroyed.includes(due));
    assert.ok(performance.now() - begunMs < TAKEN_OVER_MS);
  });
});
