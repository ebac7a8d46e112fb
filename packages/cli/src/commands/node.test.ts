import assert from 'node:assert/strict';
import { test } from 'node:test';
import { errorAnswer, runAgainstStub } from '../testing/run-against-stub.ts';

const ENV = { NESTBOX_ADMIN_TOKEN: 'secret' };
const GIB = 2 ** 30;

const node = (id: string, fields: object = {}) => ({
  id,
  clusterID: '00000000-0000-0000-0000-000000000000',
  serviceInstanceID: 'instance-1',
  version: '0.1.0',
  commit: '',
  machineInfo: { cpuFamily: '6', cpuModel: '167', cpuModelName: 'Fast', cpuArchitecture: 'x86_64' },
  status: 'ready',
  statusChangedAt: '2026-01-01T00:00:00.000Z',
  sandboxCount: 3,
  sandboxStartingCount: 1,
  pausedSandboxCount: 12,
  metrics: {
    allocatedCPU: 6,
    cpuPercent: 42,
    cpuCount: 8,
    allocatedMemoryBytes: 3 * GIB,
    memoryUsedBytes: 5 * GIB,
    memoryTotalBytes: 16 * GIB,
    hugePagesTotal: 0,
    hugePagesUsed: 0,
    hugePagesReserved: 0,
    hugePageSizeBytes: 2_097_152,
    disks: [{ mountPoint: '/', device: '/dev/vda1', filesystemType: 'ext4', usedBytes: GIB, totalBytes: 4 * GIB }],
  },
  createSuccesses: 70,
  createFails: 2,
  measuredAt: '2026-01-01T00:01:00.000Z',
  vmm: { name: 'qemu', version: '7.2.0', accelerator: 'tcg', reason: 'KVM only emulates. qemu was chosen.' },
  ...fields,
});

const AWAY = node('away', {
  status: 'unhealthy',
  statusReason: 'It cannot be reached: it is off.',
  measuredAt: undefined,
  vmm: undefined,
  metrics: { ...node('').metrics, disks: [], memoryTotalBytes: 0 },
});

test('the list has a line for each host', async (t) => {
  const routes = { 'GET /nodes': { body: [node('0123456789abcdef'), AWAY] } };
  const shown = await runAgainstStub(t, routes, ['node', 'list'], ENV);
  assert.deepEqual([shown.exitCode, shown.stderr], [0, '']);
  assert.equal(
    shown.stdout,
    `NODE              STATUS     SANDBOXES  PAUSED  VCPUS            MEMORY  CPU  VMM
0123456789abcdef  ready              3      12    6/8  3.0 GiB/16.0 GiB  42%  qemu 7.2.0, tcg
away              unhealthy          3      12    6/8       3.0 GiB/0 B  42%  -
`,
  );
  const asJson = await runAgainstStub(t, routes, ['node', 'list', '--json'], ENV);
  assert.deepEqual(JSON.parse(asJson.stdout)[0], node('0123456789abcdef'));
  assert.equal((await runAgainstStub(t, { 'GET /nodes': { body: [] } }, ['node', 'list'], ENV)).stdout, 'No host.\n');
});

test('info says which VM manager runs there and why, and what is used of what', async (t) => {
  const shown = await runAgainstStub(t, { 'GET /nodes/n1': { body: node('n1') } }, ['node', 'info', 'n1'], ENV);
  assert.deepEqual([shown.exitCode, shown.stderr], [0, '']);
  for (const line of [
    /^status +ready$/m,
    /^vmm +qemu 7\.2\.0, tcg$/m,
    /^vmmReason +KVM only emulates\. qemu was chosen\.$/m,
    /^sandboxes +3 \(1 of them starting\), 12 paused$/m,
    /^creates +70 succeeded, 2 failed since its host agent began$/m,
    /^memory +3\.0 GiB promised; 5\.0 GiB of 16\.0 GiB used$/m,
    /^disk +\/ \(ext4, \/dev\/vda1\): 1\.0 GiB of 4\.0 GiB used$/m,
  ])
    assert.match(shown.stdout, line);
  assert.doesNotMatch(shown.stdout, /commit|statusReason/);
  const away = await runAgainstStub(t, { 'GET /nodes/away': { body: AWAY } }, ['node', 'info', 'away'], ENV);
  assert.match(away.stdout, /^statusReason +It cannot be reached: it is off\.$/m);
  assert.match(away.stdout, /^measuredAt +never: it has not been reached yet$/m);
});

test('drain, standby and ready say so to the server, and a node that is not there is an error', async (t) => {
  for (const [word, status] of [
    ['drain', 'draining'],
    ['standby', 'standby'],
    ['ready', 'ready'],
  ] as const) {
    const shown = await runAgainstStub(t, { 'POST /nodes/n1': { status: 204 } }, ['node', word, 'n1'], ENV);
    assert.deepEqual([shown.exitCode, shown.stdout, shown.stderr], [0, 'n1\n', '']);
    assert.deepEqual(shown.seen[0]?.json, { status });
  }
  const none = { 'POST /nodes/n2': errorAnswer(404, 'not_found', 'There is no such node.') };
  const refused = await runAgainstStub(t, none, ['node', 'drain', 'n2', '--json'], ENV);
  assert.deepEqual([refused.exitCode, refused.stdout], [1, '']);
  assert.match(refused.stderr, /not_found/);
});
