import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { CLUSTER_ID, nodeBody } from '@nestbox/contract/http';
import { z } from 'zod';
import { createSandbox, listIds, readError, until } from './testing/api-answers.ts';
import { HostDouble } from './testing/host-double.ts';
import { startTestServer, TEST_API_KEY, type TestServer } from './testing/start-test-server.ts';

const ADMIN = 'a'.repeat(64);
const GIB = 2 ** 30;

const ABOUT: HostDouble['about'] = {
  commit: 'c0ffee',
  instanceId: 'instance-1',
  processor: { family: '6', model: '167', modelName: 'Fast', architecture: 'x86_64' },
  usage: {
    measuredAtMs: 1_700_000_000_000n,
    cpuPercent: 42,
    memoryUsedBytes: BigInt(3 * GIB),
    hugePagesTotal: 8n,
    hugePagesUsed: 3n,
    hugePagesReserved: 2n,
    hugePageSizeBytes: 2_097_152n,
    fileSystems: [{ mountPoint: '/var', device: '/dev/vdb', type: 'xfs', usedBytes: 10n, totalBytes: 100n }],
    allocatedVcpus: 4,
    allocatedMemoryBytes: BigInt(GIB),
    startingSandboxCount: 1,
    pausedSandboxCount: 5,
    createsSucceeded: 7n,
    createsFailed: 2n,
  },
};

function askAs(server: TestServer) {
  const ask = (path: string, init: RequestInit = {}) =>
    fetch(server.apiUrl + path, { ...init, headers: { 'X-Admin-Token': ADMIN, 'Content-Type': 'application/json' } });
  return {
    ask,
    list: async (query = '') => z.array(nodeBody).parse(await (await ask(`/nodes${query}`)).json()),
    node: async (id: string) => nodeBody.parse(await (await ask(`/nodes/${id}`)).json()),
    say: (id: string, status: string, fields: object = {}) =>
      ask(`/nodes/${id}`, { method: 'POST', body: JSON.stringify({ status, ...fields }) }),
  };
}

describe('nodes', () => {
  test('are the hosts with what they tell of themselves', async () => {
    await using host = await new HostDouble().open();
    host.about = ABOUT;
    await using server = await startTestServer([host], { adminToken: ADMIN });
    const { list, node } = askAs(server);
    const [only, ...others] = await list();
    assert.deepEqual(others, []);
    const { statusChangedAt, ...told } = only ?? assert.fail();
    assert.ok(Math.abs(Date.parse(statusChangedAt) - Date.now()) < 60_000);
    assert.deepEqual(told, {
      id: 'host-1',
      clusterID: CLUSTER_ID,
      serviceInstanceID: 'instance-1',
      version: '0.1.0',
      commit: 'c0ffee',
      machineInfo: { cpuFamily: '6', cpuModel: '167', cpuModelName: 'Fast', cpuArchitecture: 'x86_64' },
      status: 'ready',
      sandboxCount: 0,
      sandboxStartingCount: 1,
      pausedSandboxCount: 5,
      metrics: {
        allocatedCPU: 4,
        cpuPercent: 42,
        cpuCount: 2,
        allocatedMemoryBytes: GIB,
        memoryUsedBytes: 3 * GIB,
        memoryTotalBytes: 8 * GIB,
        hugePagesTotal: 8,
        hugePagesUsed: 3,
        hugePagesReserved: 2,
        hugePageSizeBytes: 2_097_152,
        disks: [{ mountPoint: '/var', device: '/dev/vdb', filesystemType: 'xfs', usedBytes: 10, totalBytes: 100 }],
      },
      createSuccesses: 7,
      createFails: 2,
      measuredAt: '2023-11-14T22:13:20.000Z',
      vmm: { name: 'fake', version: '1.2.3', accelerator: 'tcg', reason: 'nothing else was there.' },
    });
    await createSandbox(server);
    assert.equal((await node('host-1')).sandboxCount, 1, 'asked anew each time');
  });

  test('are for administrators, and of one cluster', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], { adminToken: ADMIN });
    const { ask, list, say } = askAs(server);
    for (const [method, path] of [
      ['GET', '/nodes'],
      ['GET', '/nodes/host-1'],
      ['POST', '/nodes/host-1'],
    ] as const) {
      const init = { method, ...(method === 'POST' ? { body: '{"status":"draining"}' } : {}) };
      const refused = await fetch(server.apiUrl + path, { ...init, headers: { 'X-API-Key': TEST_API_KEY } });
      assert.equal((await readError(refused)).code, 'forbidden');
      assert.equal((await readError(await fetch(server.apiUrl + path, init))).code, 'unauthorized');
    }
    const other = '11111111-1111-4111-8111-111111111111';
    assert.equal((await list(`?clusterID=${CLUSTER_ID}`)).length, 1);
    assert.deepEqual(await list(`?clusterID=${other}`), []);
    for (const answer of [
      await ask('/nodes/nobody'),
      await ask(`/nodes/host-1?clusterID=${other}`),
      await say('nobody', 'draining'),
      await say('host-1', 'draining', { clusterID: other }),
    ])
      assert.deepEqual([answer.status, (await readError(answer)).code], [404, 'not_found']);
    for (const answer of [
      await say('host-1', 'sleeping'),
      await say('host-1', 'draining', { clusterID: 'x' }),
      await ask('/nodes/host-1', { method: 'POST' }),
      await ask('/nodes?clusterID=x'),
    ])
      assert.equal((await readError(answer)).code, 'invalid_request');
    for (const status of ['connecting', 'unhealthy'])
      assert.equal((await readError(await say('host-1', status))).code, 'conflict');
    assert.equal((await list())[0]?.status, 'ready', 'nothing was changed');
    assert.equal((await say('host-1', 'draining', { clusterID: CLUSTER_ID })).status, 204);
  });

  test('that are draining or on standby get no new sandboxes, and theirs go on', async () => {
    await using first = await new HostDouble('a').open();
    await using second = await new HostDouble('b').open();
    await using server = await startTestServer([first, second], { adminToken: ADMIN });
    const { node, say } = askAs(server);
    const old = await createSandbox(server);
    assert.ok(first.sandboxes.has(old), 'the first of two equals');
    assert.equal((await say('a', 'draining')).status, 204);
    for (let count = 0; count < 3; count++) await createSandbox(server);
    assert.deepEqual([first.sandboxes.size, second.sandboxes.size], [1, 3]);

    assert.equal((await server.api(`/sandboxes/${old}`)).status, 200);
    assert.equal((await server.send('POST', `/sandboxes/${old}/timeout`, { timeout: 90 })).status, 204);
    const fork = await readError(await server.send('POST', `/sandboxes/${old}/fork`, { count: 1 }));
    assert.deepEqual([fork.status, fork.code], [503, 'host_unavailable']);
    assert.match(fork.message, /a is draining/);
    assert.equal(first.sandboxes.size, 1);
    assert.equal((await server.send('POST', `/sandboxes/${old}/pause`, {})).status, 204);
    assert.equal((await server.send('POST', `/sandboxes/${old}/connect`, { timeout: 60 })).status, 201);

    assert.equal((await say('b', 'standby')).status, 204);
    const refused = await readError(await server.send('POST', '/sandboxes', { templateID: 'base' }));
    assert.deepEqual([refused.status, refused.code], [503, 'host_unavailable']);
    assert.match(refused.message, /a is draining, b is on standby/);
    assert.equal((await listIds(server)).length, 4, 'no row of the refused ones is left');

    assert.equal((await node('a')).status, 'draining');
    assert.equal((await say('a', 'ready')).status, 204);
    assert.equal((await node('a')).status, 'ready');
    await createSandbox(server);
    assert.equal(first.sandboxes.size, 2);
    assert.equal((await server.send('POST', `/sandboxes/${old}/fork`, { count: 1 })).status, 201);
  });

  test('stay as they were said to be over a restart, and under another id of the host', async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'nestbox-nodes-'));
    t.after(() => rm(folder, { recursive: true }));
    const options = { adminToken: ADMIN, databasePath: join(folder, 'nestbox.db') };
    await using host = await new HostDouble().open();
    let saidAt: string | undefined;
    {
      await using server = await startTestServer([host], options);
      const { node, say } = askAs(server);
      assert.equal((await say('host-1', 'draining')).status, 204);
      saidAt = (await node('host-1')).statusChangedAt;
      await new Promise((resolve) => setTimeout(resolve, 5));
      assert.equal((await say('host-1', 'draining')).status, 204);
      assert.equal((await node('host-1')).statusChangedAt, saidAt, 'saying it again changes nothing');
    }
    {
      await using server = await startTestServer([host], options);
      const { node } = askAs(server);
      assert.equal((await node('host-1')).status, 'draining');
      assert.equal((await server.send('POST', '/sandboxes', { templateID: 'base' })).status, 503);
    }
    await using server = await startTestServer([], {
      ...options,
      hosts: [{ ...host.connection, id: 'renamed', formerIds: ['host-1'] }],
    });
    assert.equal((await askAs(server).node('renamed')).status, 'draining');
  });

  test('that cannot be reached are unhealthy, say why, and keep what they told last', async () => {
    await using host = await new HostDouble().open();
    host.about = ABOUT;
    await using server = await startTestServer([host], { adminToken: ADMIN });
    const { node, say } = askAs(server);
    const before = await node('host-1');
    host.goOffline();
    await until(async () => (await node('host-1')).status === 'unhealthy');
    const { status, statusChangedAt, statusReason, ...lost } = await node('host-1');
    assert.ok(Date.parse(statusChangedAt) >= Date.parse(before.statusChangedAt));
    assert.match(statusReason ?? '', /^It cannot be reached: .*(connection lost|ECONNREFUSED)/);
    const { status: _, statusChangedAt: __, ...kept } = before;
    assert.deepEqual(lost, kept);
    assert.equal((await say('host-1', 'draining')).status, 204);
    const drained = await node('host-1');
    assert.equal(drained.status, 'unhealthy');
    assert.match(drained.statusReason ?? '', /Once it is, it is draining\.$/);
    host.comeBack();
    await until(async () => (await node('host-1')).status === 'draining');
    assert.equal((await node('host-1')).statusReason, undefined);
  });

  test('that have never been reached have nothing to tell, and say so', async () => {
    await using host = await new HostDouble().open();
    host.goOffline();
    await using server = await startTestServer([host], { adminToken: ADMIN });
    const node = await askAs(server).node('host-1');
    assert.equal(node.status, 'unhealthy');
    assert.deepEqual([node.version, node.metrics.memoryTotalBytes, node.metrics.disks], ['', 0, []]);
    assert.deepEqual([node.measuredAt, node.vmm], [undefined, undefined]);
  });
});
