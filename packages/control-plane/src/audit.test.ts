import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { auditEntryBody } from '@nestbox/contract/http';
import { z } from 'zod';
import { runNestbox } from '../../../test/support/nestbox-command.ts';
import { AUDITED_OPERATIONS } from './http/audited-operations.ts';
import { UNSUPPORTED_OPERATIONS } from './http/unsupported-operations.ts';
import { arrived, createSandbox, readError, until } from './testing/api-answers.ts';
import { HostDouble } from './testing/host-double.ts';
import { startTestServer, TEST_API_KEY, type TestServer } from './testing/start-test-server.ts';

const ADMIN = 'a'.repeat(64);
const UUID = /^[0-9a-f]{8}-[0-9a-f-]{27}$/;

async function askAdmin(server: TestServer, method: string, path: string, body?: unknown, teamId?: string) {
  const response = await fetch(server.apiUrl + path, {
    method,
    headers: {
      'X-Admin-Token': ADMIN,
      ...(teamId === undefined ? {} : { 'X-Team-ID': teamId }),
      ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  return { status: response.status, headers: response.headers, body: text === '' ? undefined : JSON.parse(text) };
}

/** Newest first. */
async function readTrail(server: TestServer, query = '') {
  return z.array(auditEntryBody).parse((await askAdmin(server, 'GET', `/audit${query}`)).body);
}

describe('the audit trail', () => {
  test('tells what was asked for, by whom, from where, and what became of it', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], { adminToken: ADMIN });
    const id = await createSandbox(server);
    const path = `/sandboxes/${id}`;
    const refused = await server.send('POST', `${path}/timeout`, { timeout: -1 });
    const { code } = await readError(refused.clone());
    await server.send('POST', `${path}/pause`, {});
    await server.send('POST', `${path}/connect`, { timeout: 60 });
    const copies = await (await server.send('POST', `${path}/fork`, { count: 2 })).json();
    const copyIds = z
      .array(z.object({ sandbox: z.object({ sandboxID: z.string() }) }))
      .parse(copies)
      .map(({ sandbox }) => sandbox.sandboxID);
    const snapshot = await (await server.send('POST', `${path}/snapshots`, { name: 'kept' })).json();
    const { snapshotID } = z.object({ snapshotID: z.string() }).parse(snapshot);
    await server.api('/templates/kept', { method: 'DELETE' });
    await server.api(path, { method: 'DELETE' });
    await server.api(path, { method: 'DELETE' });

    const trail = await readTrail(server);
    const [team] = (await askAdmin(server, 'GET', '/admin/teams')).body;
    assert.deepEqual(
      trail.map(({ operation, targets, status, errorCode }) => [operation, targets, status, errorCode]).reverse(),
      [
        ['sandbox.create', [id], 201, null],
        ['sandbox.timeout', [id], 400, code],
        ['sandbox.pause', [id], 204, null],
        ['sandbox.connect', [id], 201, null],
        ['sandbox.fork', [id, ...copyIds], 201, null],
        ['sandbox.snapshot', [id, snapshotID], 201, null],
        ['template.delete', ['kept'], 204, null],
        ['sandbox.kill', [id], 204, null],
        ['sandbox.kill', [id], 404, 'sandbox_not_found'],
      ],
    );
    for (const { actor, address, teamID, count, requestID } of trail) {
      assert.ok(actor.kind === 'key' && actor.name === 'configured' && UUID.test(actor.keyID));
      assert.deepEqual([address, teamID, count], ['127.0.0.1', team.teamID, 1]);
      assert.match(requestID ?? '', UUID);
    }
    assert.equal(trail.at(-2)?.requestID, refused.headers.get('x-request-id'));
    assert.ok(Math.abs(Date.parse(trail[0]?.at ?? '') - Date.now()) < 60_000);
  });

  test('tells what administrators did, and holds no secret', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], { adminToken: ADMIN });
    const team = (await askAdmin(server, 'POST', '/admin/teams', { name: 'two' })).body;
    const one = (await askAdmin(server, 'POST', `/admin/teams/${team.teamID}/api-keys`, { name: 'one' })).body;
    const two = (await askAdmin(server, 'POST', '/api-keys', { name: 'two' }, team.teamID)).body;
    await askAdmin(server, 'PATCH', `/api-keys/${two.id}`, { name: 'zwei' }, team.teamID);
    await fetch(`${server.apiUrl}/sandboxes/${one.key}`, { method: 'DELETE', headers: { 'X-API-Key': two.key } });
    await askAdmin(server, 'DELETE', `/admin/teams/${team.teamID}/api-keys/${one.id}`);
    await askAdmin(server, 'PATCH', `/admin/teams/${team.teamID}`, { limits: { maxRunning: 1 } });
    await askAdmin(server, 'POST', `/admin/teams/${team.teamID}/sandboxes/kill`);
    await askAdmin(server, 'DELETE', `/admin/teams/${team.teamID}`);
    const trail = await readTrail(server);
    assert.deepEqual(
      trail.map(({ operation, targets, teamID, status }) => [operation, targets, teamID, status]).reverse(),
      [
        ['team.create', [team.teamID], null, 201],
        ['key.create', [one.id], team.teamID, 201],
        ['key.create', [two.id], team.teamID, 201],
        ['key.rename', [two.id], team.teamID, 200],
        ['sandbox.kill', ['e2b_…'], team.teamID, 404],
        ['key.revoke', [one.id], team.teamID, 204],
        ['team.update', [team.teamID], team.teamID, 200],
        ['team.kill-sandboxes', [team.teamID], team.teamID, 200],
        ['team.delete', [team.teamID], team.teamID, 204],
      ],
    );
    assert.deepEqual(
      trail.map(({ actor }) => (actor.kind === 'key' ? actor.name : actor.kind)).reverse()[4],
      'zwei',
      'the name that the key has now',
    );
    assert.equal(trail.filter(({ actor }) => actor.kind === 'admin').length, 8);
    const text = JSON.stringify(trail);
    for (const secret of [one.key, two.key, ADMIN, TEST_API_KEY]) assert.ok(!text.includes(secret));
  });

  test('counts refused attempts together, by address and by what was shown', async () => {
    await using server = await startTestServer([], { adminToken: ADMIN });
    const ask = (headers: Record<string, string>) =>
      fetch(`${server.apiUrl}/sandboxes`, { method: 'POST', headers, body: '{}' });
    for (const headers of [{}, { 'X-API-Key': 'e2b_0' }, { 'X-Admin-Token': 'x' }, { 'X-API-Key': 'e2b_1' }])
      assert.equal((await ask(headers)).status, 401);
    const trail = await readTrail(server);
    assert.deepEqual(
      trail.map(({ operation, count, status, address, actor }) => [operation, count, status, address, actor.kind]),
      [
        ['authenticate.admin', 1, 401, '127.0.0.1', 'unknown'],
        ['authenticate.key', 2, 401, '127.0.0.1', 'unknown'],
        ['authenticate.nothing', 1, 401, '127.0.0.1', 'unknown'],
      ],
    );
    assert.equal((await readTrail(server)).length, 3, 'reading again writes nothing again');
  });

  test('shows a team its own alone, without the addresses of administrators', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], { adminToken: ADMIN });
    const team = (await askAdmin(server, 'POST', '/admin/teams', { name: 'two' })).body;
    const { key } = (await askAdmin(server, 'POST', `/admin/teams/${team.teamID}/api-keys`, { name: 'one' })).body;
    await createSandbox(server);
    const asTeam = (path: string) => fetch(server.apiUrl + path, { headers: { 'X-API-Key': key } });
    const own = z.array(auditEntryBody).parse(await (await asTeam('/audit')).json());
    assert.deepEqual(
      own.map(({ operation, address }) => [operation, address]),
      [['key.create', null]],
    );
    const [first] = (await askAdmin(server, 'GET', '/admin/teams')).body;
    assert.equal((await readError(await asTeam(`/audit?team=${first.teamID}`))).code, 'team_not_found');
    assert.equal((await asTeam(`/audit?team=${team.teamID}`)).status, 200);
    assert.equal((await readTrail(server, `?team=${first.teamID}`)).length, 1);
  });

  test('is searched by team, operation, target, key and time, and read in pages', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], { adminToken: ADMIN });
    const ids: string[] = [];
    for (let count = 0; count < 3; count++) ids.push(await createSandbox(server));
    await server.api(`/sandboxes/${ids[0]}`, { method: 'DELETE' });
    const search = async (query: string) =>
      (await readTrail(server, query)).map(({ operation, targets }) => `${operation} ${targets}`);
    assert.deepEqual(await search(`?target=${ids[0]}`), [`sandbox.kill ${ids[0]}`, `sandbox.create ${ids[0]}`]);
    assert.deepEqual(await search('?operation=sandbox.kill'), [`sandbox.kill ${ids[0]}`]);
    assert.equal((await search('?operation=sandbox')).length, 4);
    for (const nobody of ['operation=sand', 'operation=%25', 'target=%25', 'target=_', 'keyID=none', 'team=none'])
      assert.deepEqual(await search(`?${nobody}`), [], nobody);
    const later = new Date(Date.now() + 60_000).toISOString();
    assert.equal((await search(`?since=${later}`)).length, 0);
    assert.equal((await search(`?until=${later}`)).length, 4);

    const pages: string[] = [];
    let token: string | null = '';
    while (token !== null) {
      const page: Awaited<ReturnType<typeof askAdmin>> = await askAdmin(
        server,
        'GET',
        `/audit?limit=2${token && `&nextToken=${token}`}`,
      );
      pages.push(
        ...z
          .array(auditEntryBody)
          .parse(page.body)
          .map(({ id }) => id),
      );
      token = page.headers.get('x-next-token');
    }
    assert.deepEqual(
      pages,
      (await readTrail(server)).map(({ id }) => id),
    );
    assert.equal((await askAdmin(server, 'GET', '/audit?nextToken=zzz')).status, 400);
  });

  test('has what was done for a client that went away', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], { adminToken: ADMIN });
    const id = await createSandbox(server);
    const letPass = host.snapshots.pauseGate.close();
    const leaving = new AbortController();
    const pause = server.api(`/sandboxes/${id}/pause`, { method: 'POST', signal: leaving.signal });
    await arrived();
    leaving.abort();
    await assert.rejects(pause);
    letPass();
    const pauses = () => readTrail(server, '?operation=sandbox.pause');
    await until(async () => (await pauses()).length === 1);
    assert.deepEqual(
      (await pauses()).map(({ address, status }) => [address, status]),
      [['127.0.0.1', 204]],
    );
  });

  test('is read with the nestbox command, as a table and as JSON', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], { adminToken: ADMIN });
    const nestbox = async (...words: string[]) => {
      const env = { E2B_API_URL: server.apiUrl, E2B_API_KEY: 'e2b_none', NESTBOX_ADMIN_TOKEN: ADMIN };
      const { exitCode, stdout, stderr } = await runNestbox(['audit', ...words], env);
      assert.equal(exitCode, words.includes('nobody') ? 1 : 0, stderr);
      return stdout.toString().trim().split('\n');
    };
    const team = (await askAdmin(server, 'POST', '/admin/teams', { name: 'two' })).body;
    await askAdmin(server, 'POST', `/admin/teams/${team.teamID}/api-keys`, { name: 'one' });
    const id = await createSandbox(server);
    await server.api(`/sandboxes/${id}`, { method: 'DELETE' });
    const table = await nestbox();
    assert.match(table[0] ?? '', /^TIME +TEAM +WHO +FROM +OPERATION +TARGETS +RESULT$/);
    assert.match(table[1] ?? '', /Z {2}- +admin +127\.0\.0\.1 {2}team\.create /);
    assert.match(table[2] ?? '', /Z {2}two +admin +127\.0\.0\.1 {2}key\.create /);
    assert.match(
      table.at(-1) ?? '',
      new RegExp(`Z  default +configured +127\\.0\\.0\\.1  sandbox\\.kill +${id} +204$`),
    );
    assert.equal((await nestbox('--team', 'two')).length, 2);
    assert.equal((await nestbox('--since', '1h', '-n', '1')).length, 2);
    const lines = (await nestbox('--target', id, '--json')).map((line) => auditEntryBody.parse(JSON.parse(line)));
    assert.deepEqual(
      lines.map(({ operation }) => operation),
      ['sandbox.create', 'sandbox.kill'],
    );
    await nestbox('--team', 'nobody');
  });

  test('has a name for every route that changes something', async () => {
    await using server = await startTestServer([]);
    const document = z
      .object({ paths: z.record(z.string(), z.record(z.string(), z.unknown())) })
      .parse(await (await fetch(`${server.apiUrl}/openapi.json`)).json());
    const changing = Object.entries(document.paths).flatMap(([path, methods]) =>
      Object.keys(methods)
        .filter((method) => method !== 'get')
        .map((method) => `${method.toUpperCase()} ${path.replaceAll(/\{(\w+)\}/g, ':$1')}`),
    );
    const refused = UNSUPPORTED_OPERATIONS.map(({ method, path }) => `${method} ${path}`);
    assert.deepEqual(
      new Set(changing.filter((route) => !refused.includes(route))),
      new Set(Object.keys(AUDITED_OPERATIONS)),
    );
  });
});
