import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { listedSandboxBody } from '@nestbox/contract/http';
import { createLogger } from '@nestbox/kit';
import { z } from 'zod';
import { findHolder, hostLease } from './store/lease-repository.ts';
import { openStore } from './store/open-store.ts';
import { createSandbox, listIds, readDetail, readError, until } from './testing/api-answers.ts';
import { echo, edgeError, Stage } from './testing/edge-stage.ts';
import { HostDouble } from './testing/host-double.ts';
import { ManualClock } from './testing/manual-clock.ts';
import { type PostgresServer, postgresMissing, startPostgres } from './testing/postgres-server.ts';
import { startTestServer, type TestServer } from './testing/start-test-server.ts';

const ADMIN_TOKEN = 'a'.repeat(32);

let postgres: PostgresServer;
const started = new AsyncDisposableStack();

/** Two servers on one database. */
async function startPair(hosts: readonly [readonly HostDouble[], readonly HostDouble[]], leaseMs?: number) {
  const database = { databaseUrl: await postgres.createDatabase() };
  const config = { database, adminToken: ADMIN_TOKEN, ...(leaseMs === undefined ? {} : { leaseMs }) };
  const [a, b] = await Promise.all(hosts.map((each) => startTestServer(each, config)));
  assert.ok(a && b);
  return {
    a,
    b,
    database,
    [Symbol.asyncDispose]: async () => {
      await a.stop();
      await b.stop();
    },
  };
}

const admin = { 'X-Admin-Token': ADMIN_TOKEN, 'Content-Type': 'application/json' };

async function defaultTeam(server: TestServer): Promise<string> {
  const answer = await fetch(`${server.apiUrl}/admin/teams`, { headers: { 'X-Admin-Token': ADMIN_TOKEN } });
  const [team] = z.array(z.object({ teamID: z.string() })).parse(await answer.json());
  return team?.teamID ?? '';
}

const shownState = async (server: TestServer, id: string) => (await readDetail(server, id)).state;

describe('several servers on one database', { skip: postgresMissing() }, () => {
  before(async () => {
    postgres = await startPostgres();
    started.defer(() => postgres.stop());
  });
  after(() => started.disposeAsync());

  test('each answers for all sandboxes, and refuses what only the other one can do', async () => {
    await using hostA = await new HostDouble('host-a').open();
    await using hostB = await new HostDouble('host-b').open();
    await using pair = await startPair([[hostA], [hostB]]);
    const { a, b } = pair;
    const ofA = await createSandbox(a);
    const ofB = await createSandbox(b);
    for (const server of [a, b]) {
      assert.deepEqual(new Set(await listIds(server)), new Set([ofA, ofB]));
      assert.deepEqual([await shownState(server, ofA), await shownState(server, ofB)], ['running', 'running']);
    }
    for (const [method, path, body] of [
      ['POST', 'pause', {}],
      ['POST', 'connect', { timeout: 60 }],
      ['POST', 'fork', {}],
      ['GET', 'metrics', undefined],
    ] as const) {
      const url = `/sandboxes/${ofA}/${path}`;
      const answer = body === undefined ? await b.api(url, { method }) : await b.send(method, url, body);
      const { status, code } = await readError(answer);
      assert.deepEqual([status, code], [503, 'host_unavailable'], path);
    }
    assert.equal(await shownState(b, ofA), 'running');
    const nodes = await fetch(`${b.apiUrl}/nodes/host-a`, { headers: admin });
    assert.equal((await readError(nodes)).code, 'host_unavailable');
    assert.equal((await fetch(`${b.apiUrl}/nodes/host-c`, { headers: admin })).status, 404);
    const routed = await fetch(b.edgeUrl, { headers: { 'E2b-Sandbox-Id': ofA, 'E2b-Sandbox-Port': '80' } });
    assert.ok(routed.status >= 500 && routed.status < 600, String(routed.status));
    assert.deepEqual([hostA.snapshots.pauses.length, hostA.destroyed.length], [0, 0]);
  });

  test('a list shows at once what the other one has changed', async () => {
    await using host = await new HostDouble().open();
    await using pair = await startPair([[host], [host]]);
    const { a, b } = pair;
    const id = await createSandbox(a, { metadata: { k: 'v' } });
    const listed = async () => z.array(listedSandboxBody).parse(await (await b.api('/v2/sandboxes')).json());
    const [first] = await listed();
    assert.deepEqual([first?.sandboxID, first?.state, first?.metadata], [id, 'running', { k: 'v' }]);
    assert.equal((await a.send('POST', `/sandboxes/${id}/timeout`, { timeout: 3000 })).status, 204);
    const [later] = await listed();
    assert.ok(first && later && Date.parse(later.endAt) > Date.parse(first.endAt) + 2_000_000);
    assert.equal((await a.send('POST', `/sandboxes/${id}/pause`, {})).status, 204);
    assert.equal((await listed())[0]?.state, 'paused');
    assert.equal((await a.api(`/sandboxes/${id}`, { method: 'DELETE' })).status, 204);
    assert.deepEqual(await listed(), []);
  });

  test('a name that two give to snapshots at once is of one of them in the end', async () => {
    await using host = await new HostDouble().open();
    await using pair = await startPair([[host], [host]], 1000);
    const { a, b } = pair;
    const [first, second] = [await createSandbox(a), await createSandbox(b)];
    const name = (server: TestServer, id: string) =>
      server.send('POST', `/sandboxes/${id}/snapshots`, { name: 'kept' });
    const open = host.snapshots.snapshotGate.close();
    const taking = name(a, first);
    await host.until(() => host.snapshots.taken.length === 1);
    const waiting = name(b, second);
    // Longer than a lease.
    await new Promise((resolve) => setTimeout(resolve, 2500));
    assert.equal(host.snapshots.taken.length, 1);
    open();
    assert.deepEqual([(await taking).status, (await waiting).status], [201, 201]);
    const named = z.array(z.object({ snapshotID: z.string(), names: z.array(z.string()) }));
    for (const server of [a, b]) {
      const listed = named.parse(await (await server.api('/snapshots')).json());
      assert.deepEqual(
        listed.map(({ names }) => names.length),
        [1],
      );
    }
  });

  test('a kill and an end by either are carried out by the one that reaches the host', async () => {
    await using hostA = await new HostDouble('host-a').open();
    await using hostB = await new HostDouble('host-b').open();
    await using pair = await startPair([[hostA], [hostB]]);
    const { a, b } = pair;
    const killed = await createSandbox(a);
    assert.equal((await b.api(`/sandboxes/${killed}`, { method: 'DELETE' })).status, 204);
    assert.deepEqual(hostA.destroyed, [killed]);
    assert.equal((await a.api(`/sandboxes/${killed}`)).status, 404);
    const due = await createSandbox(a, { timeout: 600 });
    assert.equal((await b.send('POST', `/sandboxes/${due}/timeout`, { timeout: 0 })).status, 204);
    await hostA.until(() => hostA.destroyed.includes(due));
    await until(async () => (await listIds(b)).length === 0);
    const rested = await createSandbox(a, { timeout: 600, autoPause: true });
    assert.equal((await b.send('POST', `/sandboxes/${rested}/timeout`, { timeout: 0 })).status, 204);
    await until(async () => (await shownState(b, rested)) === 'paused');
    assert.equal(hostA.snapshots.pauses.length, 1);
  });

  test('with a host in common, neither takes what the other has under way for left behind', async () => {
    await using host = await new HostDouble().open();
    await using pair = await startPair([[host], [host]], 1000);
    for (const [one, other] of [
      [pair.a, pair.b],
      [pair.b, pair.a],
    ] as const) {
      const creates = host.created.length;
      const gate = Promise.withResolvers<void>();
      host.createGate = gate.promise;
      const creating = createSandbox(one);
      await host.until(() => host.created.length === creates + 1);
      // Longer than a lease and several looks at what dead servers left.
      await new Promise((resolve) => setTimeout(resolve, 2500));
      gate.resolve();
      const id = await creating;
      assert.equal(await shownState(other, id), 'running');

      const openPause = host.snapshots.pauseGate.close();
      const pausing = one.send('POST', `/sandboxes/${id}/pause`, {});
      await host.until(() => host.snapshots.pauses.some(({ sandboxId }) => sandboxId === id));
      // It waits for the other one's pause, and resumes then.
      const connecting = other.send('POST', `/sandboxes/${id}/connect`, { timeout: 60 });
      await new Promise((resolve) => setTimeout(resolve, 2500));
      assert.equal(host.snapshots.resumes.filter(({ sandboxId }) => sandboxId === id).length, 0);
      openPause();
      assert.equal((await pausing).status, 204);
      assert.equal((await connecting).status, 201);
      assert.equal(await shownState(one, id), 'running');
      assert.deepEqual(host.destroyed, []);
    }
  });

  test('two connects at once to two servers resume a sandbox once', async () => {
    await using host = await new HostDouble().open();
    await using pair = await startPair([[host], [host]]);
    const id = await createSandbox(pair.a);
    assert.equal((await pair.b.send('POST', `/sandboxes/${id}/pause`, {})).status, 204);
    const answers = await Promise.all(
      [pair.a, pair.b, pair.a, pair.b].map((server) =>
        server.send('POST', `/sandboxes/${id}/connect`, { timeout: 60 }),
      ),
    );
    for (const { status } of answers) assert.ok(status === 200 || status === 201, String(status));
    assert.equal(host.snapshots.resumes.length, 1);
  });

  test('a key that one server revokes is refused by it from then on, and by the other within a second', async () => {
    await using host = await new HostDouble().open();
    await using pair = await startPair([[host], [host]]);
    const team = { ...admin, 'X-Team-ID': await defaultTeam(pair.a) };
    const body = JSON.stringify({ name: 'short-lived' });
    const made = await fetch(`${pair.a.apiUrl}/api-keys`, { method: 'POST', headers: team, body });
    assert.equal(made.status, 201);
    const { id, key } = z.object({ id: z.string(), key: z.string() }).parse(await made.json());
    const status = async (server: TestServer) =>
      (await fetch(`${server.apiUrl}/v2/sandboxes`, { headers: { 'X-API-Key': key } })).status;
    assert.deepEqual([await status(pair.a), await status(pair.b)], [200, 200]);
    const { 'Content-Type': _none, ...bare } = team;
    const revoked = await fetch(`${pair.a.apiUrl}/api-keys/${id}`, { method: 'DELETE', headers: bare });
    assert.equal(revoked.status, 204);
    const begunMs = performance.now();
    assert.equal(await status(pair.a), 401);
    while (performance.now() - begunMs < 1000) await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(await status(pair.b), 401);
  });

  test('a team has its limits over all servers together', async () => {
    await using host = await new HostDouble().open();
    await using pair = await startPair([[host], [host]]);
    const limited = await fetch(`${pair.a.apiUrl}/admin/teams/${await defaultTeam(pair.a)}`, {
      method: 'PATCH',
      headers: admin,
      body: JSON.stringify({ limits: { maxRunning: 5 } }),
    });
    assert.equal(limited.status, 200, await limited.text());
    const answers = await Promise.all(
      Array.from({ length: 12 }, (_, index) =>
        (index % 2 === 0 ? pair.a : pair.b).send('POST', '/sandboxes', { templateID: 'base', timeout: 60 }),
      ),
    );
    assert.equal(answers.filter(({ status }) => status === 201).length, 5);
    assert.equal(answers.filter(({ status }) => status === 429).length, 7);
    assert.equal(host.sandboxes.size, 5);
  });

  test('a host goes to the server that reaches it, and from one that ends in order at once', async () => {
    await using host = await new HostDouble('h').open();
    await using gone = await new HostDouble('h').open();
    gone.goOffline();
    const database = { databaseUrl: await postgres.createDatabase() };
    const logger = createLogger({ level: 'silent' });
    await using cutOff = await startTestServer([gone], { database, logger });
    await using reaching = await startTestServer([host], { database, logger });
    const id = await createSandbox(reaching, { timeout: 1 });
    await host.until(() => host.destroyed.includes(id));
    assert.deepEqual(gone.destroyed, []);
    await cutOff.stop();
    const next = await startTestServer([host], { database, logger });
    const lost = await createSandbox(next, { timeout: 600 });
    await reaching.stop();
    host.lose(lost);
    await until(async () => (await listIds(next)).length === 0);
    await next.stop();
  });

  test('a kill goes to the server that a host has just gone to', async () => {
    await using hostA = await new HostDouble('host-a').open();
    await using hostB = await new HostDouble('host-b').open();
    const config = { database: { databaseUrl: await postgres.createDatabase() }, leaseMs: 8000 };
    const before = await startTestServer([hostA], config);
    await using other = await startTestServer([hostB], config);
    const id = await createSandbox(before, { timeout: 600 });
    await before.stop();
    const db = await openStore(config.database);
    started.defer(() => db.destroy());
    const holder = async (name: string) => findHolder(db, hostLease(name));
    await until(async () => (await holder('host-a')) === (await holder('host-b')));
    await using after = await startTestServer([hostA], config);
    await until(async () => (await holder('host-a')) !== (await holder('host-b')));
    // The one that had it does not know yet that it has gone.
    assert.equal((await other.api(`/sandboxes/${id}`, { method: 'DELETE' })).status, 204);
    assert.deepEqual([hostA.destroyed, await listIds(after)], [[id], []]);
  });

  test('a request to a sandbox is told that the database is away, and gets through when it is back', async () => {
    const clock = new ManualClock();
    const database = { databaseUrl: await postgres.createDatabase() };
    const lines: string[] = [];
    const logger = createLogger({ level: 'warn', write: (line) => lines.push(line) });
    await using stage = await Stage.open(echo(), {}, clock, { database, logger });
    await (await stage.fetch('/')).text();
    await postgres.suspend();
    // What was read before is not believed any more.
    clock.advance(5000);
    const refused = await stage.fetch('/');
    const { error_code, message } = edgeError.parse(await refused.json());
    assert.deepEqual([refused.status, error_code], [503, 'database_unavailable']);
    assert.doesNotMatch(message, /PGSQL|ENOENT/);
    assert.ok(!lines.some((line) => line.includes('The edge failed')));
    await postgres.resume();
    assert.equal((await stage.fetch('/', { method: 'POST', body: 'back' })).status, 200);
  });

  test('a create that loses its database is ended when the database is back, though its row never said so', async () => {
    const clock = new ManualClock();
    await using host = await new HostDouble().open();
    const database = { databaseUrl: await postgres.createDatabase() };
    const server = await startTestServer([host], { database }, clock);
    const gate = Promise.withResolvers<void>();
    host.createGate = gate.promise;
    const creating = server.send('POST', '/sandboxes', { templateID: 'base', timeout: 600 });
    await host.until(() => host.created.length === 1);
    await postgres.suspend();
    gate.resolve();
    assert.deepEqual((await readError(await creating)).code, 'database_unavailable');
    assert.equal(host.sandboxes.size, 1);
    await postgres.resume();
    await until(() => {
      clock.advance(10_000);
      return host.sandboxes.size === 0;
    });
    await server.stop();
    const db = await openStore(database);
    assert.deepEqual(await db.selectFrom('sandboxes').select('id').execute(), []);
    await db.destroy();
  });
});
