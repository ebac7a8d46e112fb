import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { SandboxState } from '@nestbox/contract/host';
import { z } from 'zod';
import { HostDouble } from '../testing/host-double.ts';
import { ManualClock } from '../testing/manual-clock.ts';
import { startTestServer, type TestServer } from '../testing/start-test-server.ts';

const shown = z.object({
  sandboxID: z.string(),
  templateID: z.string(),
  alias: z.string().optional(),
  metadata: z.record(z.string(), z.string()).optional(),
  state: z.string(),
  startedAt: z.string(),
  memoryMB: z.number(),
});

const WISH = {
  templateID: 'base',
  timeout: 100,
  secure: true,
  metadata: { user: 'ada' },
  autoPause: true,
  autoResume: { enabled: true },
  allow_internet_access: false,
  network: { allowPublicTraffic: false },
};

async function create(server: TestServer, wish: object = WISH): Promise<string> {
  const response = await server.send('POST', '/v2/sandboxes', wish);
  assert.equal(response.status, 201, await response.clone().text());
  return shown.pick({ sandboxID: true }).parse(await response.json()).sandboxID;
}

async function show(server: TestServer, id: string): Promise<z.infer<typeof shown> | undefined> {
  const response = await server.api(`/sandboxes/${id}`);
  return response.status === 404 ? undefined : shown.parse(await response.json());
}

/** Its row comes a moment after its host is there. */
async function untilShown(server: TestServer, id: string): Promise<z.infer<typeof shown>> {
  for (;;) {
    const found = await show(server, id);
    if (found !== undefined) return found;
    await new Promise((resolve) => setImmediate(resolve));
  }
}

const STEP_MS = 10_000;

/** Lets time go by until something has happened, and answers how long that took. */
async function passTime(clock: ManualClock, hasHappened: () => boolean): Promise<number> {
  for (let passedMs = 0; passedMs < 1_000_000; passedMs += STEP_MS) {
    for (let turn = 0; turn < 50 && !hasHappened(); turn++) await delay(2);
    if (hasHappened()) return passedMs;
    clock.advance(STEP_MS);
  }
  throw new Error('It has not happened.');
}

describe('a server whose database is new', () => {
  test('has paused sandboxes as they were, and resumes them', async () => {
    const clock = new ManualClock();
    await using host = await new HostDouble().open();
    const first = await startTestServer([host], {}, clock);
    const id = await create(first);
    assert.equal((await first.send('POST', `/sandboxes/${id}/pause`, {})).status, 204);
    const before = await show(first, id);
    await first.stop();

    await using second = await startTestServer([host], {}, clock);
    assert.deepEqual(await untilShown(second, id), before);
    assert.deepEqual(host.destroyed, []);
    const listed = await second.api(`/v2/sandboxes?state=paused&metadata=${encodeURIComponent('user=ada')}`);
    assert.deepEqual(
      z
        .array(shown)
        .parse(await listed.json())
        .map(({ sandboxID }) => sandboxID),
      [id],
    );
    const connected = await second.send('POST', `/sandboxes/${id}/connect`, { timeout: 50 });
    assert.equal(connected.status, 201, await connected.clone().text());
    const tokens = z.object({ envdAccessToken: z.string(), trafficAccessToken: z.string() });
    const { envdAccessToken } = tokens.parse(await connected.json());
    assert.equal(host.snapshots.resumes.at(-1)?.accessToken, envdAccessToken);
    // Its end pauses it again, as it was asked for.
    assert.equal(await passTime(clock, () => host.snapshots.pauses.length === 2), 50_000);
    assert.deepEqual(host.destroyed, []);
  });

  test('has running sandboxes, too, for as long as they were to live', async () => {
    const clock = new ManualClock();
    await using host = await new HostDouble().open();
    const first = await startTestServer([host], {}, clock);
    const id = await create(first, { ...WISH, autoPause: false, autoResume: { enabled: false } });
    const fork = await first.send('POST', `/sandboxes/${id}/fork`, { count: 1, timeout: 70 });
    assert.equal(fork.status, 201, await fork.clone().text());
    await first.stop();
    await using second = await startTestServer([host], {}, clock);
    const ids = [...host.sandboxes.keys()];
    for (const each of ids) assert.equal((await untilShown(second, each)).state, 'running');
    assert.deepEqual(host.destroyed, []);
    assert.equal(await passTime(clock, () => host.destroyed.length === 1), 70_000);
    assert.deepEqual(
      host.destroyed,
      ids.filter((each) => each !== id),
    );
    assert.equal(await passTime(clock, () => host.destroyed.length === 2), 30_000);
  });

  test('keeps what has no notes, shows it to nobody new, and pauses it at its end', async () => {
    const clock = new ManualClock();
    await using host = await new HostDouble().open();
    host.addUnasked('iold');
    await using server = await startTestServer([host], {}, clock);
    await untilShown(server, 'iold');
    const isPaused = () => host.sandboxes.get('iold')?.state === SandboxState.PAUSED;
    assert.equal(await passTime(clock, isPaused), 300_000);
    assert.deepEqual(host.destroyed, []);
  });

  test('lets one that is on its way come to rest first', async () => {
    await using host = await new HostDouble().open();
    host.addUnasked('ibusy');
    host.setState('ibusy', SandboxState.RESUMING);
    await using server = await startTestServer([host]);
    await host.until(() => host.lookedFor.includes('ibusy'));
    assert.equal(await show(server, 'ibusy'), undefined);
    host.setState('ibusy', SandboxState.RUNNING);
    assert.equal((await untilShown(server, 'ibusy')).state, 'running');
  });
});
