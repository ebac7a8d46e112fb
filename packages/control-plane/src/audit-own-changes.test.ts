import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { SandboxState } from '@nestbox/contract/host';
import { auditEntryBody } from '@nestbox/contract/http';
import { z } from 'zod';
import { runNestbox } from '../../../test/support/nestbox-command.ts';
import { createSandbox, readDetail, until } from './testing/api-answers.ts';
import { echo, Stage } from './testing/edge-stage.ts';
import { HostDouble } from './testing/host-double.ts';
import { hostError } from './testing/host-double-snapshots.ts';
import { ManualClock } from './testing/manual-clock.ts';
import { startTestServer, TEST_API_KEY, type TestServer } from './testing/start-test-server.ts';

/** What a team sees of it, the oldest first. */
async function readOwn(server: TestServer) {
  const answer = await server.api('/audit?actor=system');
  return z
    .array(auditEntryBody)
    .parse(await answer.json())
    .reverse();
}

async function ownChanges(server: TestServer): Promise<(string | null)[][]> {
  return (await readOwn(server)).map(({ operation, targets, reason }) => [operation, ...targets, reason]);
}

describe('what the server does by itself stands in the audit trail', () => {
  test('ends and pauses at their time, once, with the time and whose they were, and without an answer', async () => {
    const clock = new ManualClock();
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], {}, clock);
    const killed = await createSandbox(server, { timeout: 20 });
    const paused = await createSandbox(server, { timeout: 20, autoPause: true });
    await clock.untilSleeping(20_000);
    clock.advance(20_000);
    await until(async () => (await readDetail(server, paused)).state === 'paused');
    await host.until(() => host.destroyed.includes(killed));
    await until(async () => (await readOwn(server)).length === 2);
    const entries = await readOwn(server);
    assert.deepEqual(
      new Map(entries.map(({ operation, targets, reason }) => [targets.join(), [operation, reason]])),
      new Map([
        [killed, ['sandbox.kill', 'its time was over']],
        [paused, ['sandbox.pause', 'its time was over']],
      ]),
    );
    const [create] = z
      .array(auditEntryBody)
      .parse(await (await server.api(`/audit?target=${killed}&actor=key`)).json());
    for (const { at, actor, teamID, requestID, address, status, errorCode, count } of entries) {
      assert.equal(Date.parse(at), clock.now());
      assert.deepEqual(
        [actor, requestID, address, status, errorCode, count],
        [{ kind: 'system' }, null, null, null, null, 1],
      );
      assert.equal(teamID, create?.teamID);
    }
  });

  test('an end that the host fails at first, and a pause that fails at first, stand there once', async () => {
    const clock = new ManualClock();
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], {}, clock);
    const killed = await createSandbox(server, { timeout: 20 });
    const paused = await createSandbox(server, { timeout: 20, autoPause: true });
    host.snapshots.pauseGate.error = hostError('host_disk_full');
    host.destroyError = hostError('host_unavailable');
    await clock.untilSleeping(20_000);
    clock.advance(20_000);
    await host.until(() => host.snapshots.pauses.length === 1 && host.destroyed.length === 1);
    await clock.untilSleeping(10_000);
    assert.deepEqual(await ownChanges(server), [['sandbox.kill', killed, 'its time was over']]);
    host.snapshots.pauseGate.error = undefined;
    host.destroyError = undefined;
    clock.advance(10_000);
    await until(async () => (await readDetail(server, paused)).state === 'paused');
    await until(async () => (await readOwn(server)).length === 2);
    assert.deepEqual(await ownChanges(server), [
      ['sandbox.kill', killed, 'its time was over'],
      ['sandbox.pause', paused, 'its time was over'],
    ]);
  });

  test('a request that wakes a sandbox, once for all that come together', async () => {
    await using stage = await Stage.open(echo(), { autoPause: true, autoResume: { enabled: true } });
    const { server, sandboxId } = stage;
    assert.equal((await server.send('POST', `/sandboxes/${sandboxId}/pause`, {})).status, 204);
    const answers = await Promise.all([1, 2, 3].map(() => stage.fetch('/')));
    assert.ok(answers.every(({ status }) => status === 200));
    assert.deepEqual(await ownChanges(server), [['sandbox.resume', sandboxId, 'a request to its port 8080']]);
  });

  test('a sandbox that ended by itself, and none that somebody has ended', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const [lost, killed] = [await createSandbox(server), await createSandbox(server)];
    assert.equal((await server.api(`/sandboxes/${killed}`, { method: 'DELETE' })).status, 204);
    host.lose(lost);
    await until(async () => (await server.api(`/sandboxes/${lost}`)).status === 404);
    const [entry, ...more] = await readOwn(server);
    assert.deepEqual([entry?.operation, entry?.targets, more], ['sandbox.end', [lost], []]);
    assert.ok(entry?.reason);
  });

  test('a sandbox that is taken in, and one that its host brought into another state', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'nestbox-audit-'));
    try {
      await using host = await new HostDouble().open();
      const before = await startTestServer([host], { databasePath: join(folder, 'first.db') });
      const id = await createSandbox(before);
      await before.stop();
      await using server = await startTestServer([host], { databasePath: join(folder, 'second.db') });
      await until(async () => (await server.api(`/sandboxes/${id}`)).status === 200);
      host.setState(id, SandboxState.PAUSED, false);
      await until(async () => (await readDetail(server, id)).state === 'paused');
      assert.deepEqual(await ownChanges(server), [
        ['sandbox.adopt', id, 'its host had it and the database did not'],
        ['sandbox.pause', id, 'its host says that it is paused'],
      ]);
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  test('and is found by who it was, also with the command', async () => {
    await using host = await new HostDouble().open();
    const adminToken = 'a'.repeat(64);
    await using server = await startTestServer([host], { adminToken });
    const id = await createSandbox(server);
    host.lose(id);
    await until(async () => (await readOwn(server)).length === 1);
    assert.equal((await server.api('/audit?actor=nobody')).status, 400);
    const env = { E2B_API_URL: server.apiUrl, E2B_API_KEY: TEST_API_KEY, NESTBOX_ADMIN_TOKEN: adminToken };
    const { exitCode, stdout } = await runNestbox(['audit', '--actor', 'system'], env);
    assert.equal(exitCode, 0);
    const [, line, ...more] = stdout.toString().trim().split('\n');
    assert.match(line ?? '', new RegExp(`Z {2}default +system +- +sandbox\\.end +${id} +\\S`));
    assert.deepEqual(more, []);
  });
});
