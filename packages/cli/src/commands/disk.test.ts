import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runAgainstStub } from '../testing/run-against-stub.ts';

const MIB = 2 ** 20;
const item = (kind: string, id: string, ownBytes: number, sharedBytes: number) => ({
  kind,
  id,
  name: kind === 'template' ? id : '',
  ownBytes,
  sharedBytes,
  memoryBytes: ownBytes / 2,
  diskBytes: ownBytes / 2,
});
const host = (hostId: string) => ({
  hostId,
  freeBytes: 34 * 2 ** 30,
  totalBytes: 60 * 2 ** 30,
  isVerifying: false,
  items: [item('sandbox', 'i1', 12 * MIB, 600 * MIB), item('template', 'base', 700 * MIB, 0), item('warm', 'w', 0, 8)],
});

test('what uses most stands first, and the last line has the total and the free space', async (t) => {
  const shown = await runAgainstStub(t, { 'GET /disk': { body: { hosts: [host('h1')] } } }, ['disk']);
  assert.deepEqual([shown.exitCode, shown.stderr], [0, '']);
  assert.equal(
    shown.stdout,
    `KIND      ID    NAME       OWN   SHARED   MEMORY     DISK
template  base  base   700 MiB      0 B  350 MiB  350 MiB
sandbox   i1    -     12.0 MiB  600 MiB  6.0 MiB  6.0 MiB
warm      w     -          0 B      8 B      0 B      0 B

3 items, 712 MiB of their own; 34.0 GiB of 60.0 GiB are free.
`,
  );
});

test('several hosts are told apart', async (t) => {
  const routes = { 'GET /disk': { body: { hosts: [host('h1'), host('h2')] } } };
  const shown = await runAgainstStub(t, routes, ['disk']);
  assert.match(shown.stdout, /^Host h1\nKIND.+free\.\n\nHost h2\nKIND.+free\.\n$/s);
  const asJson = await runAgainstStub(t, routes, ['disk', '--json']);
  assert.deepEqual(JSON.parse(asJson.stdout), { hosts: [host('h1'), host('h2')] });
});

test('with --verify the hosts read everything first, what is damaged is said, and the exit code says so too', async (t) => {
  const before = { ...host('h1'), verifiedAt: '2026-01-01T00:00:00.000Z' };
  const [sandbox, ...others] = before.items;
  const after = {
    ...before,
    verifiedAt: '2026-01-02T00:00:00.000Z',
    items: [{ ...sandbox, damage: 'it is cut' }, ...others],
  };
  const answers = [before, { ...before, isVerifying: true }, after];
  let asked = 0;
  const routes = {
    'GET /disk': () => ({ body: { hosts: [answers[Math.min(asked++, 2)]] } }),
    'POST /admin/disk/verify': { status: 204, body: undefined },
  };
  const shown = await runAgainstStub(t, routes, ['disk', '--verify'], { NESTBOX_ADMIN_TOKEN: 'secret' });
  assert.equal(shown.stderr, '');
  assert.equal(shown.exitCode, 1);
  assert.match(shown.stdout, /are free\.\n\nDamaged:\nsandbox i1: it is cut\n$/);
  assert.deepEqual(
    shown.seen.map(({ route }) => route),
    ['GET /disk', 'POST /admin/disk/verify', 'GET /disk', 'GET /disk'],
  );
  // It began, and its end did not come.
  const again = await runAgainstStub(t, routes, ['disk', '--verify'], { NESTBOX_ADMIN_TOKEN: 'secret' });
  assert.equal(again.exitCode, 1);
  assert.match(again.stderr, /h1 did not read all of it.*\[host_unavailable\]/);
});
