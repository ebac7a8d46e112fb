import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Sandbox } from 'e2b';
import { postgresMissing, startPostgres } from '../../packages/control-plane/src/testing/postgres-server.ts';
import { findLeftovers } from '../support/leftovers.ts';
import { startServer, type TestServer } from '../support/server.ts';
import { makeStateFolder, vmsCannotRun } from '../support/state-folder.ts';

const idsAt = async ({ connection }: TestServer) =>
  new Set((await Sandbox.list(connection).nextItems()).map(({ sandboxId }) => sandboxId));

describe('two servers on one database', { skip: vmsCannotRun() || postgresMissing() }, () => {
  test('have one key and all sandboxes, each runs its own, and one that was killed finds its own again', async (t) => {
    const postgres = await startPostgres();
    t.after(() => postgres.stop());
    const env = { DATABASE_URL: await postgres.createDatabase() };
    await using pathsA = await makeStateFolder();
    await using pathsB = await makeStateFolder();
    const [a, b] = await Promise.all([startServer(pathsA, [], env), startServer(pathsB, [], env)]);
    t.after(() => b.end('SIGKILL'));
    t.after(() => a.end('SIGKILL'));
    assert.equal(a.apiKey, b.apiKey);
    const hostIds = await Promise.all(
      [pathsA, pathsB].map(({ stateDir }) => readFile(join(stateDir, 'host-id'), 'utf8')),
    );
    assert.notEqual(hostIds[0], hostIds[1]);

    const ofA = await Sandbox.create({ ...a.connection, timeoutMs: 600_000 });
    const ofB = await Sandbox.create({ ...b.connection, timeoutMs: 600_000 });
    await ofA.files.write('/tmp/mine', 'a');
    const both = new Set([ofA.sandboxId, ofB.sandboxId]);
    assert.deepEqual([await idsAt(a), await idsAt(b)], [both, both]);
    const refused = await fetch(`${b.apiUrl}/sandboxes/${ofA.sandboxId}/pause`, {
      method: 'POST',
      headers: { 'X-API-Key': b.apiKey },
    });
    assert.equal(refused.status, 503);
    assert.equal((await ofA.getInfo()).state, 'running');

    await Sandbox.setTimeout(ofA.sandboxId, 600_000, b.connection);
    assert.equal(await a.end('SIGKILL'), 'SIGKILL');
    assert.deepEqual(await idsAt(b), both);
    await using again = await startServer(pathsA, [], env);
    assert.equal(again.apiKey, b.apiKey);
    const found = await Sandbox.connect(ofA.sandboxId, again.connection);
    assert.equal(await found.files.read('/tmp/mine'), 'a');

    // The one that has the host ends what the other one is asked to end.
    assert.equal(await Sandbox.kill(ofA.sandboxId, b.connection), true);
    assert.deepEqual(await idsAt(again), new Set([ofB.sandboxId]));
    await Sandbox.setTimeout(ofB.sandboxId, 0, again.connection);
    while ((await idsAt(again)).size > 0) await sleep(50);
    // A server that ends takes its sandboxes along, and out of the other one's list.
    await Sandbox.create({ ...b.connection, timeoutMs: 600_000 });
    assert.equal((await idsAt(again)).size, 1);
    assert.equal(await b.end('SIGTERM'), 0, b.log());
    assert.deepEqual(await idsAt(again), new Set());
    assert.equal(await again.end('SIGTERM'), 0, again.log());
    for (const paths of [pathsA, pathsB]) assert.deepEqual(await findLeftovers(paths), []);
  });
});
