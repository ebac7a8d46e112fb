import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Sandbox, SandboxState } from '@nestbox/contract/host';
import { createSandbox, listIds, readDetail, until } from './testing/api-answers.ts';
import { HostDouble } from './testing/host-double.ts';
import { startTestServer, type TestServer } from './testing/start-test-server.ts';

/** What a sandbox is shown to suffer from. */
async function troubleOf(server: TestServer, id: string) {
  const { state, damage, stall } = await readDetail(server, id);
  return { state, damage, stall };
}

function tell(host: HostDouble, id: string, change: Partial<Sandbox>): void {
  const sandbox = { ...host.require(id), ...change };
  host.sandboxes.set(id, sandbox);
  host.announce(sandbox);
}

test('a running sandbox shows why its guest stands still, as long as it does', async () => {
  await using host = await new HostDouble().open();
  await using server = await startTestServer([host]);
  const [id, other] = [await createSandbox(server), await createSandbox(server)];
  tell(host, id, { reason: 'the disk is full' });
  await until(async () => (await troubleOf(server, id)).stall !== undefined);
  assert.deepEqual(await troubleOf(server, id), { state: 'running', damage: undefined, stall: 'the disk is full' });
  assert.deepEqual(await troubleOf(server, other), { state: 'running', damage: undefined, stall: undefined });
  assert.deepEqual(new Set(await listIds(server)), new Set([id, other]));
  tell(host, id, { reason: '' });
  await until(async () => (await troubleOf(server, id)).stall === undefined);
});

test('a paused sandbox shows what is damaged of it, also to a server that begins after that was found', async () => {
  await using host = await new HostDouble().open();
  await using server = await startTestServer([host]);
  const id = await createSandbox(server);
  assert.equal((await server.api(`/sandboxes/${id}/pause`, { method: 'POST' })).status, 204);
  tell(host, id, { damage: 'its disk was changed' });
  await until(async () => (await troubleOf(server, id)).damage !== undefined);
  const shown = { state: 'paused', damage: 'its disk was changed', stall: undefined } as const;
  assert.deepEqual(await troubleOf(server, id), shown);

  await using later = await startTestServer([host]);
  await until(async () => (await later.api(`/sandboxes/${id}`)).status === 200);
  assert.deepEqual(await troubleOf(later, id), shown);

  tell(host, id, { state: SandboxState.RUNNING, damage: '' });
  await until(async () => (await troubleOf(server, id)).state === 'running');
  assert.equal((await troubleOf(server, id)).damage, undefined);
});
