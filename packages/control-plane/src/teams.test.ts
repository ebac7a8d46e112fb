import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { runNestbox } from '../../../test/support/nestbox-command.ts';
import { HostDouble } from './testing/host-double.ts';
import { ManualClock } from './testing/manual-clock.ts';
import { startTestServer, type TestServer } from './testing/start-test-server.ts';

const ADMIN = 'a'.repeat(64);

/** Calls with headers of its own instead of the test server's key. */
function caller(server: TestServer, headers: Record<string, string>) {
  return async (method: string, path: string, body?: unknown) => {
    const response = await fetch(server.apiUrl + path, {
      method,
      headers: { ...headers, ...(body === undefined ? {} : { 'Content-Type': 'application/json' }) },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    return { status: response.status, headers: response.headers, body: text === '' ? undefined : JSON.parse(text) };
  };
}

async function newTeam(server: TestServer, name: string, limits: object = {}) {
  const admin = caller(server, { 'X-Admin-Token': ADMIN });
  const team = (await admin('POST', '/admin/teams', { name, limits })).body;
  const made = (await admin('POST', `/admin/teams/${team.teamID}/api-keys`, { name: 'one' })).body;
  return { admin, team, made, as: caller(server, { 'X-API-Key': made.key }) };
}

describe('teams', () => {
  test('do not see each other', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], { adminToken: ADMIN });
    const { as, team } = await newTeam(server, 'two');
    const created = await server.send('POST', '/sandboxes', { templateID: 'base', timeout: 60 });
    const { sandboxID } = (await created.json()) as { sandboxID: string };
    for (const [method, path, body] of [
      ['GET', ''],
      ['DELETE', ''],
      ['GET', '/trace'],
      ['GET', '/metrics'],
      ['GET', '/activity'],
      ['POST', '/pause', {}],
      ['POST', '/connect', { timeout: 60 }],
      ['POST', '/resume', {}],
      ['POST', '/fork', {}],
      ['POST', '/snapshots', {}],
      ['POST', '/timeout', { timeout: 5 }],
      ['POST', '/refreshes', {}],
      ['GET', '/logs'],
      ['PUT', '/network', {}],
    ] as const) {
      const { status, body: answer } = await as(method, `/sandboxes/${sandboxID}${path}`, body);
      assert.deepEqual([status, answer.error_code], [404, 'sandbox_not_found'], `${method} ${path}`);
    }
    assert.equal((await as('GET', `/v2/sandboxes/${sandboxID}/logs`)).status, 404);
    assert.equal((await as('POST', `/v2/sandboxes/${sandboxID}/connect`, { timeout: 60 })).status, 404);
    assert.deepEqual((await as('GET', '/v2/sandboxes')).body, []);
    assert.deepEqual((await as('GET', `/sandboxes/metrics?sandbox_ids=${sandboxID}`)).body, { sandboxes: {} });
    assert.equal((await as('GET', '/teams')).body[0].teamID, team.teamID);
    const snapshot = await server.send('POST', `/sandboxes/${sandboxID}/snapshots`, { name: 'kept' });
    assert.equal(snapshot.status, 201);
    assert.deepEqual((await as('GET', '/snapshots')).body, []);
    assert.equal((await as('POST', '/sandboxes', { templateID: 'kept' })).body.error_code, 'template_not_found');
    assert.equal((await as('DELETE', '/templates/kept')).body.error_code, 'template_not_found');
    assert.equal((await server.api(`/sandboxes/${sandboxID}`)).status, 200);
    // Also when it has ended, since what is remembered of it is told for a week.
    assert.equal((await server.api(`/sandboxes/${sandboxID}`, { method: 'DELETE' })).status, 204);
    for (const path of ['metrics', 'logs']) {
      assert.equal((await server.api(`/sandboxes/${sandboxID}/${path}`)).status, 200);
      assert.equal((await as('GET', `/sandboxes/${sandboxID}/${path}`)).status, 404);
    }
  });

  test('learn nothing of a pause or a resume of another one, neither by waiting for it nor by how it fails', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], { adminToken: ADMIN });
    const { as } = await newTeam(server, 'two');
    const created = await server.send('POST', '/sandboxes', { templateID: 'base', timeout: 60 });
    const { sandboxID } = (await created.json()) as { sandboxID: string };
    const { pauseGate, resumeGate, pauses, resumes } = host.snapshots;
    for (const [verb, gate, asked] of [
      ['pause', pauseGate, pauses],
      ['resume', resumeGate, resumes],
    ] as const) {
      const open = gate.close();
      const before = asked.length;
      const underWay = server.send('POST', `/sandboxes/${sandboxID}/${verb}`, {});
      await host.until(() => asked.length > before);
      for (const other of ['connect', 'pause', 'resume', 'fork', 'snapshots']) {
        const answer = await as('POST', `/sandboxes/${sandboxID}/${other}`, { timeout: 60 });
        assert.deepEqual([answer.status, answer.body.error_code], [404, 'sandbox_not_found'], `${other} in a ${verb}`);
      }
      open();
      assert.ok((await underWay).ok, verb);
    }
  });

  test('a key ends at its time, and one that is to end in the past is not made', async () => {
    await using host = await new HostDouble().open();
    const clock = new ManualClock();
    await using server = await startTestServer([host], { adminToken: ADMIN }, clock);
    const { admin, team } = await newTeam(server, 'two');
    const make = (inMs: number) =>
      admin('POST', `/admin/teams/${team.teamID}/api-keys`, {
        name: 'short',
        expiresAt: new Date(clock.now() + inMs).toISOString(),
      });
    assert.equal((await make(0)).status, 400);
    const as = caller(server, { 'X-API-Key': (await make(60_000)).body.key });
    assert.equal((await as('GET', '/v2/sandboxes')).status, 200);
    clock.advance(60_000);
    assert.equal((await as('GET', '/v2/sandboxes')).status, 401);
  });

  test('without the right admin token nobody administers, and without one in the configuration nobody at all', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], { adminToken: ADMIN });
    await using closed = await startTestServer([]);
    for (const [where, token] of [
      [server, 'b'.repeat(64)],
      [server, ADMIN.slice(1)],
      [closed, ADMIN],
    ] as const)
      assert.equal((await caller(where, { 'X-Admin-Token': token })('GET', '/admin/teams')).status, 401);
    const ofNoTeam = caller(server, { 'X-Admin-Token': ADMIN, 'X-Team-ID': 'x' });
    assert.equal((await ofNoTeam('GET', '/v2/sandboxes')).body.error_code, 'team_not_found');
  });

  test('are deleted with their keys when they have no sandboxes, and never the default one', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], { adminToken: ADMIN });
    const { admin, as, team } = await newTeam(server, 'two');
    const { sandboxID } = (await as('POST', '/sandboxes', { templateID: 'base', timeout: 60 })).body;
    assert.equal((await admin('DELETE', `/admin/teams/${team.teamID}`)).status, 409);
    assert.equal((await as('DELETE', `/sandboxes/${sandboxID}`)).status, 204);
    assert.equal((await admin('DELETE', `/admin/teams/${team.teamID}`)).status, 204);
    assert.equal((await as('GET', '/v2/sandboxes')).status, 401);
    const [first] = (await admin('GET', '/admin/teams')).body;
    assert.equal((await admin('DELETE', `/admin/teams/${first.teamID}`)).status, 409);
    assert.equal((await server.api('/v2/sandboxes')).status, 200);
  });

  test('are not deleted while they have snapshots, which nobody could delete any more', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], { adminToken: ADMIN });
    const { admin, as, team } = await newTeam(server, 'two');
    const { sandboxID } = (await as('POST', '/sandboxes', { templateID: 'base', timeout: 60 })).body;
    assert.equal((await as('POST', `/sandboxes/${sandboxID}/snapshots`, { name: 'kept' })).status, 201);
    assert.equal((await as('DELETE', `/sandboxes/${sandboxID}`)).status, 204);
    const remove = () => admin('DELETE', `/admin/teams/${team.teamID}`);
    const refused = await remove();
    assert.equal(refused.status, 409);
    assert.match(refused.body.message, /1 snapshots/);
    assert.equal((await as('DELETE', '/templates/kept')).status, 204);
    assert.equal((await remove()).status, 204);
  });

  test('are renamed and deleted by the nestbox command, and so are keys', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], { adminToken: ADMIN });
    const nestbox = async (...words: string[]) => {
      const env = { E2B_API_URL: server.apiUrl, E2B_API_KEY: 'e2b_none', NESTBOX_ADMIN_TOKEN: ADMIN };
      const { exitCode, stdout, stderr } = await runNestbox(words, env);
      return { exitCode, stdout: stdout.toString().trim(), stderr };
    };
    const { admin, team, made, as } = await newTeam(server, 'two');
    assert.equal((await nestbox('key', 'rename', made.id, 'ci', '--team', 'two')).exitCode, 0);
    assert.equal((await as('GET', '/api-keys')).body[0].name, 'ci');
    assert.match((await nestbox('key', 'rename', made.id, 'ci')).stderr, /\[not_found\]/);
    assert.equal((await nestbox('team', 'rename', 'two', 'zwei')).stdout, team.teamID);
    assert.match((await nestbox('team', 'rename', 'zwei', 'default')).stderr, /\[conflict\]/);
    assert.equal((await as('POST', '/sandboxes', { templateID: 'base', timeout: 60 })).status, 201);
    assert.match((await nestbox('team', 'delete', 'zwei')).stderr, /has 1 sandboxes: end them first. \[conflict\]/);
    assert.match((await nestbox('team', 'delete', 'default')).stderr, /\[conflict\]/);
    assert.equal((await nestbox('team', 'delete', 'zwei', '--kill')).stdout, team.teamID);
    assert.equal(host.sandboxes.size, 0);
    assert.equal((await as('GET', '/v2/sandboxes')).status, 401);
    assert.equal((await admin('GET', '/admin/teams')).body.length, 1);
    assert.match((await nestbox('team', 'delete', 'zwei')).stderr, /\[team_not_found\]/);
  });

  test('are managed by the nestbox command', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], { adminToken: ADMIN });
    const nestbox = async (...words: string[]) => {
      const env = { E2B_API_URL: server.apiUrl, E2B_API_KEY: 'e2b_none', NESTBOX_ADMIN_TOKEN: ADMIN };
      const { exitCode, stdout, stderr } = await runNestbox(words, env);
      return { exitCode, stdout: stdout.toString().trim(), stderr };
    };
    assert.equal((await nestbox('team', 'create', 'two', '--max-running', '0')).exitCode, 0);
    const key = (await nestbox('key', 'create', 'ci', '--team', 'two')).stdout;
    const as = caller(server, { 'X-API-Key': key });
    const create = () => as('POST', '/sandboxes', { templateID: 'base', timeout: 60 });
    assert.equal((await create()).body.error_code, 'team_limit');
    assert.equal((await nestbox('team', 'limit', 'two', '--max-running', 'none')).exitCode, 0);
    assert.equal((await create()).status, 201);
    const listed = (await nestbox('key', 'list', '--team', 'two')).stdout;
    assert.ok(listed.includes(`e2b_${key.slice(4, 6)}…${key.slice(-4)}`) && !listed.includes(key), listed);
    assert.match((await nestbox('team', 'create', 'two')).stderr, /\[conflict\]/);
    const [{ id }] = JSON.parse((await nestbox('key', 'list', '--team', 'two', '--json')).stdout);
    assert.equal((await nestbox('key', 'revoke', id, '--team', 'two')).exitCode, 0);
    assert.match((await nestbox('key', 'revoke', id, '--team', 'two')).stderr, /\[not_found\]/);
    assert.equal((await create()).status, 401);
  });

  test('a key of the configuration replaces the one before, and stays revoked over restarts', async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'nestbox-keys-'));
    t.after(() => rm(folder, { recursive: true, force: true }));
    const [first, second] = [`e2b_${'1'.repeat(40)}`, `e2b_${'2'.repeat(40)}`];
    let made = '';
    const withKey = async (apiKey: string, use: (status: (key: string) => Promise<number>) => Promise<void>) => {
      const databasePath = join(folder, 'nestbox.db');
      await using server = await startTestServer([], { databasePath, apiKey, adminToken: ADMIN });
      if (made === '') made = (await newTeam(server, 'two')).made.key;
      await use(async (key) => (await caller(server, { 'X-API-Key': key })('GET', '/v2/sandboxes')).status);
      if (apiKey !== second) return;
      const admin = caller(server, { 'X-Admin-Token': ADMIN });
      const team = (await admin('GET', '/admin/teams')).body.find(({ isDefault }: { isDefault: boolean }) => isDefault);
      const [key] = (await admin('GET', `/admin/teams/${team.teamID}/api-keys`)).body;
      if (key !== undefined) await admin('DELETE', `/admin/teams/${team.teamID}/api-keys/${key.id}`);
    };
    await withKey(first, async (status) => assert.equal(await status(first), 200));
    await withKey(second, async (status) =>
      assert.deepEqual([await status(first), await status(second), await status(made)], [401, 200, 200]),
    );
    await withKey(second, async (status) => assert.deepEqual([await status(second), await status(made)], [401, 200]));
    await withKey(first, async (status) => assert.deepEqual([await status(first), await status(second)], [200, 401]));
  });

  test('a revoked key is refused at once, and a key makes no keys', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], { adminToken: ADMIN });
    const { admin, as, team, made } = await newTeam(server, 'two');
    assert.equal((await as('GET', '/v2/sandboxes')).status, 200);
    assert.equal((await as('POST', '/api-keys', { name: 'x' })).status, 403);
    assert.equal((await as('GET', '/admin/teams')).status, 403);
    const listed = (await as('GET', '/api-keys')).body;
    assert.ok(listed[0].lastUsed !== null && !JSON.stringify(listed).includes(made.key));
    assert.equal((await admin('DELETE', `/admin/teams/${team.teamID}/api-keys/${made.id}`)).status, 204);
    assert.equal((await as('GET', '/v2/sandboxes')).status, 401);
  });

  test('copies and resumed sandboxes need a place too, and one that is refused changes nothing', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], { adminToken: ADMIN });
    const { as } = await newTeam(server, 'two', { maxRunning: 2 });
    const create = async () => (await as('POST', '/sandboxes', { templateID: 'base', timeout: 60 })).body.sandboxID;
    const [first] = [await create(), await create()];
    const refused = async (path: string, body: object) => {
      const { status, body: answer, headers } = await as('POST', `/sandboxes/${first}${path}`, body);
      assert.deepEqual([status, answer.error_code], [429, 'team_limit'], path);
      assert.ok(Number(headers.get('retry-after')) >= 1, path);
    };
    await refused('/fork', { count: 1 });
    const never = await as('POST', `/sandboxes/${first}/fork`, { count: 2 });
    assert.deepEqual([never.status, never.body.error_code], [400, 'invalid_request'], 'whatever ends meanwhile');
    assert.equal((await as('POST', `/sandboxes/${first}/pause`, {})).status, 204);
    await create();
    await refused('/resume', {});
    await refused('/connect', { timeout: 60 });
    const states = (await as('GET', '/v2/sandboxes')).body.map(({ state }: { state: string }) => state);
    assert.deepEqual(states.toSorted(), ['paused', 'running', 'running']);
  });

  test('two creates at once do not pass the limit, and the answer says when to try again', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], { adminToken: ADMIN });
    const { as } = await newTeam(server, 'two', { maxRunning: 2 });
    const create = () => as('POST', '/sandboxes', { templateID: 'base', timeout: 60 });
    const answers = await Promise.all(Array.from({ length: 5 }, create));
    assert.deepEqual(answers.map(({ status }) => status).toSorted(), [201, 201, 429, 429, 429]);
    const refused = answers.find(({ status }) => status === 429);
    assert.equal(refused?.body.error_code, 'team_limit');
    assert.ok(Number(refused?.headers.get('retry-after')) >= 1);
    const { as: slow } = await newTeam(server, 'slow', { maxCreatesPerMinute: 1 });
    assert.equal((await slow('POST', '/sandboxes', { templateID: 'base', timeout: 60 })).status, 201);
    assert.equal((await slow('POST', '/sandboxes', { templateID: 'base' })).body.error_code, 'rate_limited');
  });

  test('what can never have a place is told so, and not to try again', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], { adminToken: ADMIN });
    const { as: small } = await newTeam(server, 'small', { maxMemoryMB: 100 });
    const { as: slow } = await newTeam(server, 'slow', { maxCreatesPerMinute: 2 });
    const { sandboxID } = (await slow('POST', '/sandboxes', { templateID: 'base', timeout: 60 })).body;
    for (const [answer, code] of [
      [await small('POST', '/sandboxes', { templateID: 'base' }), 'team_limit'],
      [await slow('POST', `/sandboxes/${sandboxID}/fork`, { count: 3 }), 'rate_limited'],
    ] as const) {
      assert.deepEqual([answer.status, answer.body.error_code], [429, code]);
      assert.match(answer.body.message, /never/);
      assert.equal(answer.headers.get('retry-after'), null);
    }
  });
});
