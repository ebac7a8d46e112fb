import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { SandboxState as HostState } from '@nestbox/contract/host';
import { openStore } from '../store/open-store.ts';
import { findSandbox } from '../store/sandbox-repository.ts';
import type { SandboxState } from '../store/sandbox-state.ts';
import { EVERY_TEAM } from '../store/team-scope.ts';
import { createSandbox, listIds, readDetail, readError, until } from '../testing/api-answers.ts';
import { HostDouble } from '../testing/host-double.ts';
import { ManualClock } from '../testing/manual-clock.ts';
import { startTestServer, type TestServer } from '../testing/start-test-server.ts';
import { testStore } from '../testing/test-store.ts';

/** A database file for servers that follow each other. */
async function withDatabase(use: (databasePath: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'nestbox-control-'));
  try {
    await use(join(folder, 'control-plane.db'));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Writes a state between two servers, as one that was killed in the middle of something leaves it. */
async function leaveState(databasePath: string, id: string, state: SandboxState): Promise<void> {
  const db = await openStore(await testStore(databasePath));
  try {
    await db.updateTable('sandboxes').set({ state }).where('id', '=', id).execute();
  } finally {
    await db.destroy();
  }
}

async function storedState(databasePath: string, id: string): Promise<SandboxState | undefined> {
  const db = await openStore(await testStore(databasePath));
  try {
    return (await findSandbox(db, EVERY_TEAM, id))?.state;
  } finally {
    await db.destroy();
  }
}

const pause = (server: TestServer, id: string) => server.api(`/sandboxes/${id}/pause`, { method: 'POST' });

describe('a restart of the control plane', () => {
  test('keeps paused sandboxes, which can be resumed and killed then', () =>
    withDatabase(async (databasePath) => {
      await using host = await new HostDouble().open();
      const first = await startTestServer([host], { databasePath });
      const [one, two] = [await createSandbox(first), await createSandbox(first)];
      await pause(first, one);
      await pause(first, two);
      await first.stop();
      await using second = await startTestServer([host], { databasePath });
      assert.deepEqual(new Set(await listIds(second, '/v2/sandboxes?state=paused')), new Set([one, two]));
      assert.equal((await second.send('POST', `/sandboxes/${one}/connect`, { timeout: 60 })).status, 201);
      assert.equal((await second.api(`/sandboxes/${two}`, { method: 'DELETE' })).status, 204);
      assert.deepEqual([...host.sandboxes.keys()], [one]);
    }));

  const cases: readonly [SandboxState, keyof typeof HostState | undefined, SandboxState | undefined][] = [
    ['pausing', 'RUNNING', 'running'],
    ['pausing', 'PAUSED', 'paused'],
    ['pausing', undefined, undefined],
    ['resuming', 'RUNNING', 'running'],
    ['resuming', 'PAUSED', 'paused'],
    ['resuming', undefined, undefined],
    ['running', 'PAUSED', 'paused'],
    ['paused', 'RUNNING', 'running'],
    ['paused', 'PAUSED', 'paused'],
    ['paused', undefined, undefined],
    ['pausing', 'PAUSING', 'pausing'],
    ['resuming', 'RESUMING', 'resuming'],
    ['stopping', 'PAUSED', undefined],
  ];
  for (const [row, onHost, expected] of cases) {
    const says = onHost === undefined ? 'nothing' : onHost.toLowerCase();
    test(`makes of a ${row} row whose host says ${says}: ${expected ?? 'no row'}`, () =>
      withDatabase(async (databasePath) => {
        await using host = await new HostDouble().open();
        const first = await startTestServer([host], { databasePath });
        const id = await createSandbox(first);
        await first.stop();
        await leaveState(databasePath, id, row);
        if (onHost === undefined) host.sandboxes.delete(id);
        else host.setState(id, HostState[onHost]);
        const second = await startTestServer([host], { databasePath });
        // Stopping waits for what the start began.
        await second.stop();
        assert.equal(await storedState(databasePath, id), expected);
        assert.deepEqual(host.destroyed, row === 'stopping' ? [id] : []);
      }));
  }

  test('gives a sandbox that was resumed meanwhile the time that its client last asked for', () =>
    withDatabase(async (databasePath) => {
      const clock = new ManualClock();
      await using host = await new HostDouble().open();
      const first = await startTestServer([host], { databasePath }, clock);
      const id = await createSandbox(first, { timeout: 40 });
      await pause(first, id);
      await first.stop();
      await leaveState(databasePath, id, 'resuming');
      host.setState(id, HostState.RUNNING);
      clock.advance(1_000_000);
      await using second = await startTestServer([host], { databasePath }, clock);
      await until(async () => (await readDetail(second, id)).state === 'running');
      assert.equal(Date.parse((await readDetail(second, id)).endAt), clock.now() + 40_000);
      await clock.untilSleeping(40_000);
      clock.advance(40_000);
      await host.until(() => host.destroyed.includes(id));
    }));

  test('while the host is still at it: the call that needs to know says so, and the event settles it', () =>
    withDatabase(async (databasePath) => {
      await using host = await new HostDouble().open();
      const first = await startTestServer([host], { databasePath });
      const id = await createSandbox(first);
      await first.stop();
      await leaveState(databasePath, id, 'pausing');
      host.setState(id, HostState.PAUSING);
      await using second = await startTestServer([host], { databasePath });
      assert.equal((await readDetail(second, id)).state, 'running');
      const connecting = await second.send('POST', `/sandboxes/${id}/connect`, { timeout: 60 });
      assert.equal((await readError(connecting)).code, 'host_unavailable');
      host.setState(id, HostState.PAUSED, true);
      await until(async () => (await readDetail(second, id)).state === 'paused');
      assert.equal((await second.send('POST', `/sandboxes/${id}/connect`, { timeout: 60 })).status, 201);
    }));
});

describe('reconciliation', () => {
  test('follows a host that pauses or resumes a sandbox by itself', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const id = await createSandbox(server);
    host.setState(id, HostState.PAUSED, false);
    await until(async () => (await readDetail(server, id)).state === 'paused');
    host.setState(id, HostState.RUNNING);
    await until(async () => (await readDetail(server, id)).state === 'running');
  });

  test('drops a paused sandbox that its host says is gone', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const id = await createSandbox(server);
    await pause(server, id);
    host.lose(id, 'its files were deleted');
    await until(async () => (await server.api(`/sandboxes/${id}`)).status === 404);
  });

  test('leaves a pause in flight alone while the watch begins anew', async () => {
    const clock = new ManualClock();
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], {}, clock);
    const id = await createSandbox(server);
    const open = host.snapshots.pauseGate.close();
    const pausing = pause(server, id);
    await host.until(() => host.snapshots.pauses.length === 1);
    host.goOffline();
    await clock.untilSleeping(100);
    host.comeBack();
    clock.advance(100);
    await until(async () => (await server.api('/templates')).status === 200);
    assert.deepEqual(host.lookedFor, []);
    open();
    assert.equal((await pausing).status, 204);
    assert.equal((await readDetail(server, id)).state, 'paused');
    assert.deepEqual(host.destroyed, []);
  });

  test('settles a pause that was in flight when the host was lost, once it is back', async () => {
    const clock = new ManualClock();
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], {}, clock);
    const id = await createSandbox(server, { timeout: 3600 });
    const open = host.snapshots.pauseGate.close();
    const pausing = pause(server, id);
    await host.until(() => host.snapshots.pauses.length === 1);
    host.goOffline();
    await clock.untilSleeping(100);
    open();
    assert.equal((await readError(await pausing)).code, 'host_unavailable');
    assert.equal((await readDetail(server, id)).state, 'running');
    // It got through with it all the same.
    host.comeBack();
    host.setState(id, HostState.PAUSED, true);
    clock.advance(100);
    await until(async () => (await readDetail(server, id)).state === 'paused');
  });
});
