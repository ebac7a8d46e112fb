import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { GetDiskUsageResponse_ItemSchema, GetSandboxTraceResponse_OperationSchema } from '@nestbox/contract/host';
import { diskUsageBody, sandboxActivityBody, sandboxTraceBody } from '@nestbox/contract/http';
import { createSandbox, readError } from './testing/api-answers.ts';
import { HostDouble } from './testing/host-double.ts';
import { ManualClock } from './testing/manual-clock.ts';
import { startTestServer } from './testing/start-test-server.ts';

const ADMIN = 'an-administrator';

/** Names of the stages that an answer tells of; each must have a duration. */
function timedStages(answer: Response): string[] {
  const header = answer.headers.get('server-timing') ?? '';
  return header.split(', ').map((stage) => {
    const [, name = ''] = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+);dur=\d+(?:\.\d+)?$/.exec(stage) ?? [];
    assert.ok(name !== '', `${JSON.stringify(stage)} is a stage`);
    return name;
  });
}

describe('Server-Timing', () => {
  test('tells where the time went, here and on the host', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const created = await server.send('POST', '/sandboxes', { templateID: 'base' });
    assert.deepEqual(timedStages(created), ['templates', 'db', 'host', 'boot']);
    assert.match(created.headers.get('server-timing') ?? '', /boot;dur=2\.5/);
    const id = await createSandbox(server);
    const send = (verb: string, body: object = {}) => server.send('POST', `/sandboxes/${id}/${verb}`, body);
    assert.deepEqual(timedStages(await send('connect', { timeout: 60 })), ['db']);
    assert.deepEqual(timedStages(await send('fork')), ['db', 'host', 'freeze']);
    assert.deepEqual(timedStages(await send('snapshots')), ['db', 'host', 'save-memory']);
    assert.deepEqual(timedStages(await send('snapshots', { name: 'x' })), ['db', 'templates', 'host', 'save-memory']);
    assert.deepEqual(timedStages(await send('pause')), ['db', 'host', 'save-memory']);
    assert.deepEqual(timedStages(await send('resume')), ['db', 'host', 'restore']);
    await send('pause');
    assert.deepEqual(timedStages(await send('connect', { timeout: 60 })), ['db', 'host', 'restore']);
  });
});

describe('the trace of a sandbox', () => {
  test('shows its operations as the host keeps them', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const id = await createSandbox(server);
    const trace = async () => sandboxTraceBody.parse(await (await server.api(`/sandboxes/${id}/trace`)).json());
    assert.deepEqual(await trace(), { operations: [] });
    host.snapshots.operations = [
      create(GetSandboxTraceResponse_OperationSchema, {
        name: 'pause',
        startedAtMs: 1_700_000_001_000n,
        error: 'There was no room.',
      }),
      create(GetSandboxTraceResponse_OperationSchema, {
        name: 'create',
        startedAtMs: 1_700_000_000_000n,
        stages: [{ name: 'kernel', startMs: 1.5, durationMs: 700.25 }],
      }),
    ];
    const operations = [
      { name: 'pause', startedAt: '2023-11-14T22:13:21.000Z', stages: [], error: 'There was no room.' },
      {
        name: 'create',
        startedAt: '2023-11-14T22:13:20.000Z',
        stages: [{ name: 'kernel', startMs: 1.5, durationMs: 700.25 }],
      },
    ];
    assert.deepEqual(await trace(), { operations });
    await server.api(`/sandboxes/${id}/pause`, { method: 'POST' });
    assert.deepEqual(await trace(), { operations }, 'a paused sandbox has one too');
    assert.equal((await readError(await server.api('/sandboxes/iunknown/trace'))).code, 'sandbox_not_found');
    assert.equal((await fetch(`${server.apiUrl}/sandboxes/${id}/trace`)).status, 401);
  });
});

describe('the activity of a sandbox', () => {
  test("is the later of what the host saw and of the API's own calls; looking is none", async () => {
    const clock = new ManualClock();
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], {}, clock);
    const startMs = clock.now();
    const id = await createSandbox(server, { timeout: 3600 });
    const activity = async () => {
      const body = sandboxActivityBody.parse(await (await server.api(`/sandboxes/${id}/activity`)).json());
      return { sinceStartMs: Date.parse(body.lastActivityAt) - startMs, ...body, lastActivityAt: undefined };
    };
    const at = (sinceStartMs: number, runningCommands = 0, openConnections = 0) => ({
      sinceStartMs,
      runningCommands,
      openConnections,
      lastActivityAt: undefined,
    });
    clock.advance(1000);
    for (const path of ['', '/metrics', '/trace', '/activity']) await server.api(`/sandboxes/${id}${path}`);
    assert.deepEqual(await activity(), at(0));
    await server.send('POST', `/sandboxes/${id}-nestbox/timeout`, { timeout: 3600 });
    assert.deepEqual(await activity(), at(1000));
    host.snapshots.activity = { lastActivityAtMs: BigInt(startMs + 700), runningCommands: 2, openConnections: 1 };
    assert.deepEqual(await activity(), at(1000, 2, 1));
    host.snapshots.activity = { lastActivityAtMs: BigInt(startMs + 1500), runningCommands: 0, openConnections: 1 };
    assert.deepEqual(await activity(), at(1500, 0, 1));
    clock.advance(1000);
    assert.equal((await server.send('POST', `/sandboxes/${id}/timeout`, { timeout: -1 })).status, 400);
    assert.deepEqual(await activity(), at(1500, 0, 1), 'what is refused is none');
    for (const [index, verb] of ['refreshes', 'fork', 'snapshots', 'pause', 'resume', 'pause'].entries()) {
      clock.advance(1000);
      const answer = await server.send('POST', `/sandboxes/${id}/${verb}`, verb === 'resume' ? { timeout: 3600 } : {});
      assert.ok(answer.ok, verb);
      assert.equal((await activity()).sinceStartMs, 3000 + index * 1000, verb);
    }
    assert.deepEqual(await activity(), at(8000), 'nothing goes on in a paused sandbox');
    assert.equal((await readError(await server.api('/sandboxes/iunknown/activity'))).code, 'sandbox_not_found');
  });
});

describe('the use of disks', () => {
  test('is told by host, in numbers; a host that is away is left out', async () => {
    const clock = new ManualClock();
    await using first = await new HostDouble('first').open();
    await using second = await new HostDouble('second').open();
    await using server = await startTestServer([first, second], { adminToken: ADMIN }, clock);
    const item = {
      kind: 'snapshot',
      id: 'abc',
      name: 'work:default',
      ownBytes: 2 ** 40,
      sharedBytes: 5,
      memoryBytes: 6,
      diskBytes: 7,
    };
    first.snapshots.diskItems = [
      create(GetDiskUsageResponse_ItemSchema, {
        ...item,
        ownBytes: 2n ** 40n,
        sharedBytes: 5n,
        memoryBytes: 6n,
        diskBytes: 7n,
      }),
    ];
    const disk = async () => diskUsageBody.parse(await (await server.api('/disk')).json());
    const sizes = { freeBytes: 10_000_000_000, totalBytes: 2 ** 40, isVerifying: false };
    assert.deepEqual(await disk(), {
      hosts: [
        { hostId: 'first', ...sizes, items: [item] },
        { hostId: 'second', ...sizes, items: [] },
      ],
    });
    first.snapshots.verifiedAtMs = 1_700_000_000_000n;
    for (const told of first.snapshots.diskItems) told.damage = 'a file is cut';
    const [told] = (await disk()).hosts;
    assert.equal(told?.verifiedAt, '2023-11-14T22:13:20.000Z');
    assert.deepEqual(told?.items, [{ ...item, damage: 'a file is cut' }]);
    first.snapshots.verifiedAtMs = 0n;
    for (const each of first.snapshots.diskItems) each.damage = '';
    // Reading everything is for administrators to ask for.
    assert.equal((await server.send('POST', '/admin/disk/verify', {})).status, 403);
    assert.equal(first.snapshots.verifying, false);
    const asAdmin = { method: 'POST', headers: { 'X-Admin-Token': ADMIN } };
    assert.equal((await fetch(`${server.apiUrl}/admin/disk/verify`, asAdmin)).status, 204);
    assert.deepEqual(
      (await disk()).hosts.map(({ isVerifying }) => isVerifying),
      [true, true],
    );
    for (const host of [first, second]) host.snapshots.verifying = false;
    second.goOffline();
    assert.deepEqual(await disk(), { hosts: [{ hostId: 'first', ...sizes, items: [item] }] });
    first.goOffline();
    assert.equal((await readError(await server.api('/disk'))).code, 'host_unavailable');
    assert.equal((await fetch(`${server.apiUrl}/disk`)).status, 401);
  });
});

test('a create that asks for MCP servers is carried out, and says that it left them out', async () => {
  await using host = await new HostDouble().open();
  await using server = await startTestServer([host]);
  const ignored = async (fields: object) => {
    const answer = await server.send('POST', '/sandboxes', { templateID: 'base', ...fields });
    assert.equal(answer.status, 201);
    return answer.headers.get('x-nestbox-ignored');
  };
  assert.equal(await ignored({ mcp: { github: {} } }), 'mcp');
  assert.equal(await ignored({ mcp: null }), null);
});
