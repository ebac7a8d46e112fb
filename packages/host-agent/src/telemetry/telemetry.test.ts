import assert from 'node:assert/strict';
import { appendFile, mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { type HostLayout, hostLayout } from '../storage/layout.ts';
import { TEST_LOGGER } from '../testing/test-host.ts';
import type { LogEntry } from './log-entry.ts';
import { MAX_SAMPLES, MetricHistory, type MetricSample } from './metric-history.ts';
import { SandboxLogs } from './sandbox-logs.ts';
import { Telemetry } from './telemetry.ts';

const ID = 'isandbox';

async function makeLayout(t: TestContext): Promise<HostLayout> {
  const root = await mkdtemp(join(tmpdir(), 'nestbox-telemetry-'));
  t.after(() => rm(root, { recursive: true, force: true }));
  return hostLayout({ stateDir: root, runDir: join(root, 'run'), instance: 'test' });
}

const entry = (timeMs: number, message: string, level: LogEntry['level'] = 'info'): LogEntry => ({
  timeMs,
  level,
  message,
  fields: {},
});
const forward = { limit: 1000, backward: false };
const messages = (entries: readonly LogEntry[]) => entries.map(({ message }) => message);

function sample(timestampMs: number, cpuUsedPct = 1): MetricSample {
  return {
    timestampMs,
    cpuCount: 2,
    cpuUsedPct,
    memUsedBytes: 10,
    memTotalBytes: 2 ** 40,
    memCacheBytes: 3,
    diskUsedBytes: 4,
    diskTotalBytes: 5,
  };
}

test('a log is read as often as one likes, in order of time, by filters', async (t) => {
  const logs = new SandboxLogs(await makeLayout(t));
  await logs.append(ID, [entry(20, 'second', 'error'), entry(20, 'Third')]);
  await logs.append(ID, [entry(10, 'first', 'debug')]);
  for (let again = 0; again < 2; again++)
    assert.deepEqual(messages(await logs.read(ID, forward)), ['first', 'second', 'Third']);
  assert.deepEqual(messages(await logs.read(ID, { ...forward, backward: true, limit: 1 })), ['Third']);
  assert.deepEqual(messages(await logs.read(ID, { ...forward, cursorMs: 20 })), ['second', 'Third']);
  assert.deepEqual(messages(await logs.read(ID, { ...forward, backward: true, cursorMs: 20 })), ['second', 'first']);
  assert.deepEqual(messages(await logs.read(ID, { ...forward, minLevel: 'info' })), ['second', 'Third']);
  assert.deepEqual(messages(await logs.read(ID, { ...forward, search: 'tHIR' })), ['Third']);
  assert.deepEqual(await logs.read(ID, { ...forward, limit: 0 }), []);
  assert.deepEqual(await logs.read('inobody', forward), []);
});

test('pages by cursor lose no line and repeat none', async (t) => {
  const logs = new SandboxLogs(await makeLayout(t));
  await logs.append(
    ID,
    Array.from({ length: 50 }, (_, index) => entry(1000, `a${index}`)),
  );
  await logs.append(
    ID,
    Array.from({ length: 50 }, (_, index) => entry(1000 + index, `b${index}`)),
  );
  const seen: string[] = [];
  let cursorMs = 0;
  for (;;) {
    const page = await logs.read(ID, { limit: 7, backward: false, cursorMs });
    if (page.length === 0) break;
    seen.push(...messages(page));
    cursorMs = (page.at(-1)?.timeMs ?? 0) + 1;
  }
  assert.equal(seen.length, 100);
  assert.equal(new Set(seen).size, 100);
});

test('a log stays bounded, and the newest lines are the ones that stay', async (t) => {
  const layout = await makeLayout(t);
  const logs = new SandboxLogs(layout);
  const text = 'x'.repeat(8000);
  for (let line = 0; line < 500; line++) await logs.append(ID, [entry(line, `${line} ${text}`)]);
  const sizes = await Promise.all([layout.sandboxLog(ID), layout.sandboxOldLog(ID)].map((path) => stat(path)));
  for (const { size } of sizes) assert.ok(size <= 1024 * 1024);
  const kept = await logs.read(ID, forward);
  assert.ok(kept.length > 125 && kept.length < 300, `${kept.length}`);
  assert.match(kept.at(-1)?.message ?? '', /^499 /);
  await logs.append(ID, [entry(1000, 'y'.repeat(1_000_000))]);
  assert.ok(((await logs.read(ID, forward)).at(-1)?.message.length ?? 0) < 10_000);
});

test('a restart goes on where the last one was, whatever a crash left of the last line', async (t) => {
  const layout = await makeLayout(t);
  const first = new SandboxLogs(layout);
  await first.append(ID, [entry(1, 'one')], { guest: { buffer: 'b', seq: 4 } });
  await first.append(ID, [entry(2, 'two')], { console: 17 });
  await appendFile(layout.sandboxLog(ID), '{"t":3,"l":"info","m":"cut o');
  const second = new SandboxLogs(layout);
  assert.deepEqual(await second.marks(ID), { guest: { buffer: 'b', seq: 4 }, console: 17 });
  await second.append(ID, [entry(4, 'four')]);
  assert.deepEqual(messages(await second.read(ID, forward)), ['one', 'two', 'four']);
});

test('samples stay bounded and survive a restart, also one in the middle of a record', async (t) => {
  const layout = await makeLayout(t);
  const first = new MetricHistory(layout);
  for (let at = 1; at <= 3; at++) await first.append(ID, sample(at * 1000));
  await appendFile(layout.sandboxMetrics(ID), Buffer.alloc(10));
  const second = new MetricHistory(layout);
  assert.deepEqual(await second.latest(ID), sample(3000));
  await second.append(ID, sample(4000));
  const all = { startMs: 0, endMs: 1e15, maxPoints: 100_000 };
  assert.deepEqual(
    (await second.read(ID, all)).map(({ timestampMs }) => timestampMs),
    [1000, 2000, 3000, 4000],
  );
  assert.deepEqual(await second.read(ID, { ...all, startMs: 2000, endMs: 2000 }), [sample(2000)]);
  for (let at = 5; at < MAX_SAMPLES + 1200; at++) await second.append(ID, sample(at * 1000));
  const kept = await second.read(ID, all);
  assert.ok(kept.length >= MAX_SAMPLES && kept.length <= MAX_SAMPLES + 1000, `${kept.length}`);
  const points = await second.read(ID, { ...all, maxPoints: 100 });
  assert.ok(points.length <= 100);
  assert.equal(points.at(-1)?.timestampMs, kept.at(-1)?.timestampMs);
});

test('what ended sandboxes left goes when it is old or too much, that of others stays', async (t) => {
  const layout = await makeLayout(t);
  const telemetry = new Telemetry(layout, TEST_LOGGER);
  for (const id of ['ilive', 'iold', 'inew', 'ilost']) await telemetry.note(id, 'info', 'x');
  await telemetry.ended('iold');
  await telemetry.ended('inew');
  const isLive = (id: string) => id === 'ilive';
  const left = async () => (await readdir(layout.telemetriesDir)).sort((a, b) => a.localeCompare(b));
  await telemetry.sweep(isLive);
  assert.deepEqual(await left(), ['ilive', 'ilost', 'inew', 'iold']);
  await telemetry.sweep(isLive, Date.now(), 10_000);
  assert.equal((await left()).length, 2, 'the live one, and one of the others');
  await telemetry.sweep(isLive, Date.now() + 8 * 86_400_000);
  assert.deepEqual(await left(), ['ilive']);
});
