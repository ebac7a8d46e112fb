import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { auditEntryBody } from '@nestbox/contract/http';
import { Sandbox, SandboxError } from 'e2b';
import { z } from 'zod';
import { findLeftovers, vmProcesses } from '../support/leftovers.ts';
import { outcomeOf, runNestbox, spawnNestbox } from '../support/nestbox-command.ts';
import { startServer } from '../support/server.ts';
import { makeStateFolder, vmsCannotRun } from '../support/state-folder.ts';

describe('the end of a server', { skip: vmsCannotRun() }, () => {
  test('after kill -9 the next server finds the sandboxes again, with their processes going on', async () => {
    await using paths = await makeStateFolder();
    const first = await startServer(paths);
    const sandbox = await Sandbox.create({ ...first.connection, timeoutMs: 600_000, metadata: { a: 'b' } });
    const counter = await sandbox.commands.run('n=0; while true; do n=$((n+1)); echo $n > /tmp/n; sleep 0.1; done', {
      background: true,
      timeoutMs: 0,
    });
    const broken = assert.rejects(counter.wait());
    const vmsBefore = vmProcesses(paths).map(({ pid }) => pid);
    assert.equal(await first.end('SIGKILL'), 'SIGKILL');
    await broken;
    assert.deepEqual(
      vmProcesses(paths).map(({ pid }) => pid),
      vmsBefore,
    );

    await using second = await startServer(paths);
    assert.equal(second.apiKey, first.apiKey);
    const found = await Sandbox.connect(sandbox.sandboxId, second.connection);
    const info = await found.getInfo();
    assert.deepEqual([info.metadata, info.state], [{ a: 'b' }, 'running']);
    assert.deepEqual(
      (await found.commands.list()).map(({ pid }) => pid),
      [counter.pid],
    );
    const count = async () => Number((await found.files.read('/tmp/n')).trim() || 'NaN');
    const before = await count();
    while (!((await count()) > before)) await sleep(50);
    // New ones can be made beside it.
    const other = await Sandbox.create({ ...second.connection, timeoutMs: 600_000 });
    assert.equal((await other.commands.run('echo new')).stdout, 'new\n');

    assert.equal(await second.end('SIGTERM'), 0, second.log());
    assert.deepEqual(await findLeftovers(paths), []);
  });

  test('a sandbox whose VM died while no server ran is gone, and nothing of it is left', async () => {
    await using paths = await makeStateFolder();
    const first = await startServer(paths);
    const sandbox = await Sandbox.create({ ...first.connection, timeoutMs: 600_000 });
    await first.end('SIGKILL');
    for (const { pid } of vmProcesses(paths)) process.kill(pid, 'SIGKILL');

    await using second = await startServer(paths);
    const { connection } = second;
    // The server says so as soon as it has looked; it may answer before that.
    const listed = async () => (await Sandbox.list(connection).nextItems()).length;
    while ((await listed()) > 0) await sleep(50);
    assert.equal(await Sandbox.kill(sandbox.sandboxId, connection), false);
    assert.equal(await second.end('SIGTERM'), 0, second.log());
    assert.deepEqual(await findLeftovers(paths), []);
  });

  test('an orderly end is the end of the sandboxes: it is written down, and the next server does not wonder', async () => {
    await using paths = await makeStateFolder();
    const first = await startServer(paths);
    const { sandboxId } = await Sandbox.create(first.connection);
    assert.equal(await first.end('SIGTERM'), 0, first.log());

    await using second = await startServer(paths);
    const { apiUrl, apiKey } = second.connection;
    const answer = await fetch(`${apiUrl}/audit?actor=system&target=${sandboxId}`, {
      headers: { 'X-API-Key': apiKey },
    });
    const entries = z.array(auditEntryBody).parse(await answer.json());
    assert.deepEqual(
      entries.map(({ operation, reason }) => [operation, reason]),
      [['sandbox.kill', 'its server ended']],
    );
    assert.doesNotMatch(second.log(), new RegExp(sandboxId));
    assert.equal(await second.end('SIGTERM'), 0, second.log());
  });

  test('with --keep-sandboxes they go on, and the next server ends them', async () => {
    await using paths = await makeStateFolder();
    const first = await startServer(paths, ['--keep-sandboxes']);
    const sandbox = await Sandbox.create({ ...first.connection, timeoutMs: 600_000 });
    await sandbox.files.write('/tmp/kept', 'yes');
    assert.equal(await first.end('SIGINT'), 0, first.log());
    assert.ok(vmProcesses(paths).length > 0);

    await using second = await startServer(paths);
    const found = await Sandbox.connect(sandbox.sandboxId, second.connection);
    assert.equal(await found.files.read('/tmp/kept'), 'yes');
    assert.equal(await second.end('SIGTERM'), 0, second.log());
    assert.deepEqual(await findLeftovers(paths), []);
  });

  test('a second server on the same state folder is refused, and the first goes on', async () => {
    await using paths = await makeStateFolder();
    await using server = await startServer(paths);
    const second = await runNestbox(['up', '--json', '--port', '0', '--sandbox-port', '0'], {
      NESTBOX_DIR: paths.stateDir,
    });
    assert.equal(second.exitCode, 1);
    assert.equal(second.stdout.length, 0);
    assert.equal(JSON.parse(second.stderr).error.code, 'state_dir_in_use');
    assert.match(second.stderr, new RegExp(String(server.pid)));
    assert.deepEqual(await Sandbox.list(server.connection).nextItems(), []);
  });

  test('a port that is taken is told, and nothing is left of the attempt', async () => {
    await using paths = await makeStateFolder();
    await using other = await makeStateFolder();
    await using server = await startServer(paths);
    const { port } = new URL(server.apiUrl);
    const attempt = await runNestbox(['up', '--json', '--port', port, '--sandbox-port', '0'], {
      NESTBOX_DIR: other.stateDir,
    });
    assert.equal(attempt.exitCode, 1);
    assert.match(attempt.stderr, new RegExp(port));
    assert.deepEqual(await findLeftovers(other), []);
  });

  test('SIGTERM in the middle of a create: it is answered or undone, and nothing is left', async () => {
    await using paths = await makeStateFolder();
    await using server = await startServer(paths);
    const creating = Sandbox.create({ ...server.connection, timeoutMs: 600_000 }).then(
      ({ sandboxId }) => assert.match(sandboxId, /^i[0-9a-z]+$/),
      // An answer, and no cut connection.
      (error: unknown) => assert.ok(error instanceof SandboxError, String(error)),
    );
    while (vmProcesses(paths).length === 0) await sleep(5);
    assert.equal(await server.end('SIGTERM'), 0, server.log());
    await creating;
    assert.deepEqual(await findLeftovers(paths), []);
  });

  test('a server that is told to end before it is ready leaves nothing', async () => {
    await using paths = await makeStateFolder();
    const child = spawnNestbox(
      ['up', '--port', '0', '--sandbox-port', '0', '--log-level', 'trace'],
      { NESTBOX_DIR: paths.stateDir },
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    const outcome = outcomeOf(child);
    await once(child, 'spawn');
    // Its signal handlers are there once its code is loaded; what it says first comes later.
    if (child.stderr) await Promise.race([once(child.stderr, 'data'), outcome]);
    child.kill('SIGTERM');
    const { exitCode } = await outcome;
    assert.equal(exitCode, 143);
    assert.deepEqual(await findLeftovers(paths), []);
  });
});
