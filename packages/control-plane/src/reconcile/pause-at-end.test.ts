import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createSandbox, readDetail, until } from '../testing/api-answers.ts';
import { HostDouble } from '../testing/host-double.ts';
import { hostError } from '../testing/host-double-snapshots.ts';
import { ManualClock } from '../testing/manual-clock.ts';
import { startTestServer } from '../testing/start-test-server.ts';

describe('the end of a sandbox that is to be paused then', () => {
  test('pauses it, with its memory or without, and never ends it', async () => {
    const clock = new ManualClock();
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], {}, clock);
    const full = await createSandbox(server, { timeout: 20, autoPause: true });
    const disk = await createSandbox(server, { timeout: 20, autoPause: true, autoPauseMemory: false });
    const killed = await createSandbox(server, { timeout: 20, autoPause: false });
    await clock.untilSleeping(20_000);
    clock.advance(20_000);
    await until(async () => (await readDetail(server, full)).state === 'paused');
    await until(async () => (await readDetail(server, disk)).state === 'paused');
    await host.until(() => host.destroyed.includes(killed));
    assert.deepEqual(
      new Map(host.snapshots.pauses.map(({ sandboxId, memory }) => [sandboxId, memory])),
      new Map([
        [full, true],
        [disk, false],
      ]),
    );
    const detail = await readDetail(server, full);
    assert.equal(Date.parse(detail.endAt), clock.now());
    assert.deepEqual(detail.lifecycle, { onTimeout: 'pause', autoResume: false });
    clock.advance(86_400_000);
    assert.equal((await readDetail(server, full)).state, 'paused');
    assert.deepEqual(host.destroyed, [killed]);
  });

  test('that fails is tried again 10 s later, and the sandbox runs meanwhile', async () => {
    const clock = new ManualClock();
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], {}, clock);
    const id = await createSandbox(server, { timeout: 20, autoPause: true });
    host.snapshots.pauseGate.error = hostError('host_disk_full');
    await clock.untilSleeping(20_000);
    clock.advance(20_000);
    for (let attempt = 1; attempt <= 3; attempt++) {
      await host.until(() => host.snapshots.pauses.length === attempt);
      await clock.untilSleeping(10_000);
      assert.equal((await readDetail(server, id)).state, 'running');
      assert.equal((await server.send('POST', `/sandboxes/${id}/connect`, { timeout: 1 })).status, 200);
      if (attempt === 3) host.snapshots.pauseGate.error = undefined;
      clock.advance(9999);
      await clock.untilSleeping(1);
      assert.equal(host.snapshots.pauses.length, attempt);
      clock.advance(1);
    }
    await until(async () => (await readDetail(server, id)).state === 'paused');
    assert.deepEqual(host.destroyed, []);
  });

  test('that failed is put off by a new time-out', async () => {
    const clock = new ManualClock();
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], {}, clock);
    const id = await createSandbox(server, { timeout: 20, autoPause: true });
    host.snapshots.pauseGate.error = hostError('snapshot_limit');
    await clock.untilSleeping(20_000);
    clock.advance(20_000);
    await clock.untilSleeping(10_000);
    host.snapshots.pauseGate.error = undefined;
    assert.equal((await server.send('POST', `/sandboxes/${id}/timeout`, { timeout: 50 })).status, 204);
    clock.advance(10_000);
    await clock.untilSleeping(40_000);
    assert.equal(host.snapshots.pauses.length, 1);
    clock.advance(40_000);
    await until(async () => (await readDetail(server, id)).state === 'paused');
  });

  test('drops a sandbox that its host says is gone', async () => {
    const clock = new ManualClock();
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], {}, clock);
    const id = await createSandbox(server, { timeout: 20, autoPause: true });
    await clock.untilSleeping(20_000);
    host.sandboxes.delete(id);
    clock.advance(20_000);
    await until(async () => (await server.api(`/sandboxes/${id}`)).status === 404);
    assert.deepEqual(host.destroyed, []);
  });

  test('with the host away waits until it is back', async () => {
    const clock = new ManualClock();
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], {}, clock);
    const id = await createSandbox(server, { timeout: 20, autoPause: true });
    await clock.untilSleeping(20_000);
    host.goOffline();
    await clock.untilSleeping(100);
    clock.advance(20_000);
    await clock.untilSleeping(10_000);
    assert.equal((await readDetail(server, id)).state, 'running');
    assert.equal(host.snapshots.pauses.length, 0);
    host.comeBack();
    await until(async () => {
      clock.advance(10_000);
      return (await readDetail(server, id)).state === 'paused';
    });
    assert.equal(host.snapshots.pauses.length, 1);
  });

  test('at the moment of a connect keeps the promise of the connect', async () => {
    const clock = new ManualClock();
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], {}, clock);
    const id = await createSandbox(server, { timeout: 20, autoPause: true });
    const open = host.snapshots.pauseGate.close();
    await clock.untilSleeping(20_000);
    clock.advance(20_000);
    await host.until(() => host.snapshots.pauses.length === 1);
    const connecting = server.send('POST', `/sandboxes/${id}/connect`, { timeout: 100 });
    open();
    assert.equal((await connecting).status, 201);
    assert.equal(Date.parse((await readDetail(server, id)).endAt), clock.now() + 100_000);
  });

  test('comes with a kill at once, and the kill wins', async () => {
    const clock = new ManualClock();
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], {}, clock);
    const id = await createSandbox(server, { timeout: 20, autoPause: true });
    const open = host.snapshots.pauseGate.close();
    await clock.untilSleeping(20_000);
    clock.advance(20_000);
    await host.until(() => host.snapshots.pauses.length === 1);
    assert.equal((await server.api(`/sandboxes/${id}`, { method: 'DELETE' })).status, 204);
    open();
    assert.equal((await server.api(`/sandboxes/${id}`)).status, 404);
    assert.equal(host.sandboxes.size, 0);
  });

  test('of a sandbox that was resumed by hand comes after the time that was given then', async () => {
    const clock = new ManualClock();
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], {}, clock);
    const id = await createSandbox(server, { timeout: 20, autoPause: true });
    await server.api(`/sandboxes/${id}/pause`, { method: 'POST' });
    await server.send('POST', `/sandboxes/${id}/connect`, { timeout: 30 });
    await clock.untilSleeping(30_000);
    clock.advance(30_000);
    await until(async () => (await readDetail(server, id)).state === 'paused');
    assert.equal(host.snapshots.pauses.length, 2);
  });
});
