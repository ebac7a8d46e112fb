import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Sandbox, SandboxNotFoundError } from 'e2b';
import { z } from 'zod';
import { forEachAddressing } from '../support/each-addressing.ts';

/** A copy's first steps take long where everything is emulated. */
const GOES_ON_MS = 15_000;

const created = z.object({ sandboxID: z.string() });
const traced = z.object({
  operations: z.array(z.object({ name: z.string(), stages: z.array(z.object({ name: z.string() })) })),
});

const DRAW = [
  'head -c 16 /dev/urandom | od -An -tx1',
  'cat /proc/sys/kernel/random/uuid',
  "python3 -c 'import random, ssl, uuid; print(random.random(), ssl.RAND_bytes(8).hex(), uuid.uuid4())'",
].join('; ');

forEachAddressing('forks and snapshots, by the e2b client', {}, (suite) => {
  async function fork(sandbox: Sandbox, count: number): Promise<Sandbox[]> {
    const copies = await sandbox.fork({ count, timeoutMs: 600_000 });
    return copies.map((copy) => {
      assert.ok(copy instanceof Sandbox, String(copy));
      return copy;
    });
  }

  test('copies have memory and disk of one moment, and then a life of their own', async () => {
    const source = await suite.createSandbox({ metadata: { kind: 'source' } });
    await source.commands.run('n=0; while true; do n=$((n+1)); echo $n > /dev/shm/n; sleep 0.1; done', {
      background: true,
      timeoutMs: 0,
    });
    await source.files.write('/home/user/who.txt', 'source');
    const info = await source.getInfo();
    const copies = await fork(source, 3);
    assert.equal(new Set([source, ...copies].map(({ sandboxId }) => sandboxId)).size, 4);
    assert.deepEqual((await source.getInfo()).endAt, info.endAt, 'the time of the source is untouched');

    for (const copy of copies) {
      assert.equal(await copy.files.read('/home/user/who.txt'), 'source');
      const count = async () => Number(await copy.files.read('/dev/shm/n'));
      const first = await count();
      const endsAt = performance.now() + GOES_ON_MS;
      while ((await count()) <= first) {
        assert.ok(performance.now() < endsAt, 'its programs go on');
        await sleep(100);
      }
      await copy.files.write('/home/user/who.txt', copy.sandboxId);
      assert.equal((await copy.commands.run('hostname; echo $E2B_SANDBOX_ID')).stdout, `${copy.sandboxId}\n`.repeat(2));
    }
    assert.equal(await source.files.read('/home/user/who.txt'), 'source');

    // A copy of a copy, and each can be paused by itself.
    const [first, second] = copies;
    assert.ok(first && second);
    const [grandchild] = await fork(first, 1);
    assert.ok(grandchild);
    assert.equal(await source.kill(), true);
    await second.pause();
    await second.connect(suite.connection);
    assert.equal(await second.files.read('/home/user/who.txt'), second.sandboxId);
    assert.equal(await grandchild.files.read('/home/user/who.txt'), first.sandboxId);
    for (const sandbox of [...copies, grandchild]) assert.equal(await sandbox.kill(), true);
  });

  test('a sandbox that is paused or not there cannot be forked, nor so often', async () => {
    const sandbox = await suite.createSandbox();
    await assert.rejects(sandbox.fork({ count: 101 }), /100/);
    await sandbox.pause();
    await assert.rejects(sandbox.fork(), /409/);
    await sandbox.kill();
    await assert.rejects(sandbox.fork(), SandboxNotFoundError);
  });

  test('a snapshot with a name is a template until it is deleted, and after that to those who run on it', async () => {
    const { connection } = suite;
    const source = await suite.createSandbox();
    await source.files.write('/dev/shm/memory.txt', 'in memory');
    await source.files.write('/home/user/disk.txt', 'on disk');
    const snapshot = await source.createSnapshot({ name: 'prepared' });
    assert.equal(snapshot.snapshotId, 'prepared:default');
    await source.files.write('/home/user/disk.txt', 'changed later');
    assert.equal(await source.kill(), true);

    const listed = await Sandbox.listSnapshots(connection).nextItems();
    assert.deepEqual(
      listed.map(({ snapshotId }) => snapshotId),
      ['prepared:default'],
    );
    const sandboxes = await Promise.all(
      ['prepared', 'prepared:default'].map((template) =>
        Sandbox.create(template, { ...connection, timeoutMs: 600_000, envs: { WHO: template } }),
      ),
    );
    for (const [index, sandbox] of sandboxes.entries()) {
      assert.equal(await sandbox.files.read('/dev/shm/memory.txt'), 'in memory');
      assert.equal(await sandbox.files.read('/home/user/disk.txt'), 'on disk');
      const who = index === 0 ? 'prepared' : 'prepared:default';
      assert.equal((await sandbox.commands.run('echo $WHO')).stdout, `${who}\n`);
    }
    const [running, paused] = sandboxes;
    assert.ok(running && paused);
    await paused.pause();
    assert.equal(await Sandbox.deleteSnapshot(snapshot.snapshotId, connection), true);
    assert.equal(await Sandbox.deleteSnapshot(snapshot.snapshotId, connection), false);
    assert.deepEqual(await Sandbox.listSnapshots(connection).nextItems(), []);
    await assert.rejects(Sandbox.create('prepared', connection), /404/);

    await paused.connect(connection);
    for (const sandbox of sandboxes) {
      assert.equal(await sandbox.files.read('/dev/shm/memory.txt'), 'in memory');
      assert.equal(await sandbox.kill(), true);
    }
  });

  test('snapshots are listed by sandbox and by name, page by page', async () => {
    const { connection } = suite;
    const source = await suite.createSandbox();
    const other = await suite.createSandbox();
    const named = await Sandbox.createSnapshot(source.sandboxId, { ...connection, name: 'listed:first' });
    assert.deepEqual([named.snapshotId, named.names], ['listed:first', ['listed:first']]);
    const unnamed = await source.createSnapshot();
    const foreign = await other.createSnapshot();
    const ids = async (paginator: ReturnType<typeof Sandbox.listSnapshots>) => {
      const pages: string[][] = [];
      while (paginator.hasNext) pages.push((await paginator.nextItems()).map(({ snapshotId }) => snapshotId));
      return pages;
    };
    assert.deepEqual(await ids(source.listSnapshots()), [[unnamed.snapshotId, named.snapshotId]]);
    assert.deepEqual(await ids(source.listSnapshots({ limit: 1 })), [[unnamed.snapshotId], [named.snapshotId]]);
    assert.deepEqual(await ids(source.listSnapshots({ name: 'listed' })), [[named.snapshotId]]);
    assert.deepEqual(await ids(Sandbox.listSnapshots({ ...connection, sandboxId: other.sandboxId })), [
      [foreign.snapshotId],
    ]);
    for (const { snapshotId } of [named, unnamed, foreign])
      assert.equal(await Sandbox.deleteSnapshot(snapshotId, connection), true);
    for (const sandbox of [source, other]) await sandbox.kill();
  });

  test('where the time went is told', async () => {
    const { apiUrl } = suite;
    const { apiKey } = suite.server;
    const response = await fetch(`${apiUrl}/v2/sandboxes`, {
      method: 'POST',
      headers: { 'X-API-Key': apiKey, 'content-type': 'application/json' },
      body: JSON.stringify({ templateID: 'base', timeout: 60 }),
    });
    assert.equal(response.status, 201);
    assert.match(response.headers.get('server-timing') ?? '', /restore;.*dur=\d/);
    const { sandboxID } = created.parse(await response.json());
    const trace = await fetch(`${apiUrl}/sandboxes/${sandboxID}/trace`, { headers: { 'X-API-Key': apiKey } });
    const [operation] = traced.parse(await trace.json()).operations;
    assert.equal(operation?.name, 'create');
    assert.ok(operation.stages.some(({ name }) => name === 'init'));
    assert.equal(await Sandbox.kill(sandboxID, suite.connection), true);
  });

  // What is inside a copy does not depend on how clients reach it.
  if (suite.addressing === 'domain') return;

  test('no two of a family draw the same random bytes', async () => {
    const source = await suite.createSandbox();
    const family = [source, ...(await fork(source, 2))];
    const drawn = await Promise.all(family.map(async (sandbox) => (await sandbox.commands.run(DRAW)).stdout));
    const words = drawn.flatMap((text) => text.trim().split(/\n| (?=[0-9a-f]{16} )/));
    assert.equal(new Set(words).size, words.length, words.join('\n'));
    for (const sandbox of family) await sandbox.kill();
  });
});
