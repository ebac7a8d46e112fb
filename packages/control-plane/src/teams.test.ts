import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { HostDouble } from './testing/host-double.ts';
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
    ] as const) {
      const { status, body: answer } = await as(method, `/sandboxes/${sandboxID}${path}`, body);
      assert.deepEqual([status, answer.error_code], [404, 'sandbox_not_found'], `${method} ${path}`);
    }
    assert.deepEqual((await as('GET', '/v2/sandboxes')).body, []);
    assert.deepEqual((await as('GET', `/sandboxes/metrics?sandbox_ids=${sandboxID}`)).body, { sandboxes: {} });
    assert.equal((await as('GET', '/teams')).body[0].teamID, team.teamID);
    const snapshot = await server.send('POST', `/sandboxes/${sandboxID}/snapshots`, { name: 'kept' });
    assert.equal(snapshot.status, 201);
    assert.deepEqual((await as('GET', '/snapshots')).body, []);
    assert.equal((await as('POST', '/sandboxes', { templateID: 'kept' })).body.error_code, 'template_not_found');
    assert.equal((await as('DELETE', '/templates/kept')).body.error_code, 'template_not_found');
    assert.equal((await server.api(`/sandboxes/${sandboxID}`)).status, 200);
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
});
