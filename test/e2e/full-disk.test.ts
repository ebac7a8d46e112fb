import assert from 'node:assert/strict';
import { rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { runCommand } from '@nestbox/kit';
import { Sandbox } from 'e2b';
import { findLeftovers } from '../support/leftovers.ts';
import { startServer, type TestServer } from '../support/server.ts';
import { makeSmallStateFolder, vmsCannotRun } from '../support/state-folder.ts';

const MIB = 2 ** 20;
/** The images, and what a sandbox needs free to start. */
const DISK_MIB = 2600;
const HARDLY_ANY_MIB = 8;
/** Less than the guest is about to write, more than it needs until then. */
const SOME_MIB = 64;
const STALL_MS = 60_000;
const SECRETS = 'head -c 3000000 /dev/urandom > /home/user/kept; head -c 3000000 /dev/urandom > /dev/shm/secret; sync';
const DIGEST = 'cat /home/user/kept /dev/shm/secret | sha256sum';
const MUCH_BYTES = 110 * MIB;
const MUCH = `yes | head -c ${MUCH_BYTES}`;
/** The guest writes out nothing that it is not told to. */
const KEEP_IN_MEMORY =
  'cd /proc/sys/vm && echo 90 > dirty_ratio && echo 80 > dirty_background_ratio && echo 0 > dirty_writeback_centisecs';
const compare = (name: string) => `sync && ${MUCH} | cmp - /home/user/${name} && echo whole`;
const WRITE_MUCH = `${MUCH} > /home/user/big && ${compare('big')}`;

interface Answer {
  readonly status: number;
  readonly body: {
    readonly error_code?: string;
    readonly state?: string;
    readonly stall?: string;
    readonly logs?: { readonly message: string }[];
  };
}

async function ask({ apiUrl, apiKey }: TestServer, method: 'GET' | 'POST', path: string, body = {}): Promise<Answer> {
  const headers = { 'x-api-key': apiKey, 'content-type': 'application/json' };
  const init = { method, headers, ...(method === 'GET' ? {} : { body: JSON.stringify(body) }) };
  const response = await fetch(`${apiUrl}${path}`, init);
  return { status: response.status, body: (await response.json()) as Answer['body'] };
}

async function until(what: string, isSo: () => Promise<boolean>): Promise<void> {
  const endsAt = performance.now() + STALL_MS;
  while (!(await isSo())) {
    assert.ok(performance.now() < endsAt, what);
    await sleep(250);
  }
}

test('a full disk loses nothing: what needs room says so, and all goes on when there is some again', {
  skip: vmsCannotRun(),
}, async () => {
  await using paths = await makeSmallStateFolder(DISK_MIB);
  {
    await using server = await startServer(paths);
    const filler = join(paths.stateDir, 'filler');
    const leave = async (mib: number) => {
      const { bavail, bsize } = await statfs(paths.stateDir);
      await runCommand('fallocate', ['--length', `${bavail * bsize - mib * MIB}`, filler]);
    };
    const makeRoom = () => rm(filler);
    const sandbox = await Sandbox.create('base', { ...server.connection, timeoutMs: 600_000 });
    const path = `/sandboxes/${sandbox.sandboxId}`;
    const say = async (line: string) => (await sandbox.commands.run(line, { user: 'root' })).stdout.trim();
    const stateNow = async () => (await ask(server, 'GET', path)).body.state;
    const guest = { 'E2b-Sandbox-Id': sandbox.sandboxId, 'E2b-Sandbox-Port': '49983' };
    const timesWentOn = async () => {
      const { logs = [] } = (await ask(server, 'GET', `/v2${path}/logs?limit=1000`)).body;
      return logs.filter(({ message }) => message.startsWith('Sandbox goes on. It stood still: ')).length;
    };
    await say(SECRETS);
    const digest = await say(DIGEST);

    await leave(HARDLY_ANY_MIB);
    for (const [what, where, body] of [
      ['pause', `${path}/pause`, {}],
      ['fork', `${path}/fork`, { count: 1 }],
      ['snapshot', `${path}/snapshots`, { name: 'no-room' }],
      ['create', '/sandboxes', { templateID: 'base' }],
    ] as const) {
      const answer = await ask(server, 'POST', where, body);
      assert.deepEqual([answer.status, answer.body.error_code], [507, 'host_disk_full'], what);
      assert.equal(await stateNow(), 'running', what);
      assert.equal(await say(DIGEST), digest, what);
    }
    await makeRoom();

    await sandbox.pause();
    await leave(HARDLY_ANY_MIB);
    const refused = await ask(server, 'POST', `${path}/connect`, { timeout: 600 });
    assert.deepEqual([refused.status, refused.body.error_code], [507, 'host_disk_full']);
    assert.equal(await stateNow(), 'paused');
    await makeRoom();
    await sandbox.connect({ timeoutMs: 600_000 });
    assert.equal(await say(DIGEST), digest);

    // The guest fills what is left: its writes wait, and it with them.
    await leave(SOME_MIB);
    const writing = sandbox.commands.run(WRITE_MUCH, { user: 'root', timeoutMs: 2 * STALL_MS });
    writing.catch(() => undefined);
    await until('the guest stands still', async () => {
      const limit = AbortSignal.timeout(1000);
      const answer = await fetch(`${server.sandboxUrl}/health`, { headers: guest, signal: limit }).catch(
        () => undefined,
      );
      if (answer?.status !== 507) return false;
      const { error_code } = (await answer.json()) as Answer['body'];
      return error_code === 'host_disk_full';
    });
    await until('the sandbox shows why', async () => (await ask(server, 'GET', path)).body.stall !== undefined);
    assert.equal(await stateNow(), 'running');
    const paused = await ask(server, 'POST', `${path}/pause`);
    assert.deepEqual([paused.status, paused.body.error_code], [507, 'host_disk_full']);
    await makeRoom();
    assert.equal((await writing).stdout.trim(), 'whole');
    assert.equal(await say(DIGEST), digest);
    await until('the log says so', async () => (await timesWentOn()) === 1);
    assert.equal((await ask(server, 'GET', path)).body.stall, undefined);

    // A pause that forgets the memory fails when the guest cannot write out all of it.
    await leave(SOME_MIB);
    await say(`${KEEP_IN_MEMORY}; ${MUCH} > /home/user/more`);
    const forgetful = await ask(server, 'POST', `${path}/pause`, { memory: false });
    assert.deepEqual([forgetful.status, forgetful.body.error_code], [507, 'host_disk_full']);
    await makeRoom();
    // A request that came before the host saw it stand still may be answered before the host says that it goes on.
    await until('the guest goes on', async () => (await timesWentOn()) === 2);
    assert.equal(await say(compare('more')), 'whole');
    await sandbox.kill();
  }
  // But the test's own.
  const mount = new RegExp(`^mount .* / ${paths.stateDir} `);
  assert.deepEqual(
    (await findLeftovers(paths)).filter((line) => !mount.test(line)),
    [],
  );
});
