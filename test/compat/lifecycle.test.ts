import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AuthenticationError, E2B, NotFoundError, Sandbox, SandboxNotFoundError, type SandboxOpts } from 'e2b';
import { z } from 'zod';
import { forEachAddressing } from '../support/each-addressing.ts';

forEachAddressing('the life of sandboxes, by the e2b client', {}, (suite) => {
  test('a sandbox is made, found, described, measured and killed', async () => {
    const before = Date.now();
    const sandbox = await suite.createSandbox({ metadata: { purpose: 'a whole life' }, timeoutMs: 300_000 });
    assert.match(sandbox.sandboxId, /^i[a-z0-9]{20}$/);
    assert.equal(await sandbox.isRunning(), true);

    const info = await sandbox.getInfo();
    assert.equal(info.sandboxId, sandbox.sandboxId);
    assert.equal(info.name, 'base');
    assert.equal(info.state, 'running');
    assert.deepEqual(info.metadata, { purpose: 'a whole life' });
    assert.ok(info.startedAt.getTime() >= before - 1000 && info.startedAt.getTime() <= Date.now() + 1000);
    const lifeMs = info.endAt.getTime() - info.startedAt.getTime();
    assert.ok(lifeMs >= 300_000 && lifeMs < 400_000, `lives for ${lifeMs} ms`);

    // The guest has what the API says, less what its kernel keeps for itself.
    const { stdout } = await sandbox.commands.run("nproc; awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo");
    const [cpuCount = 0, memoryMib = 0] = stdout.trim().split('\n').map(Number);
    assert.equal(cpuCount, info.cpuCount);
    assert.ok(memoryMib <= info.memoryMB && memoryMib > info.memoryMB * 0.85, `${memoryMib} of ${info.memoryMB} MiB`);

    const metrics = await sandbox.getMetrics();
    const [sample] = metrics;
    assert.ok(sample !== undefined, 'there is at least one sample');
    assert.equal(sample.cpuCount, info.cpuCount);
    assert.ok(sample.memTotal > 0 && sample.memUsed > 0 && sample.memUsed < sample.memTotal);
    assert.ok(sample.diskTotal > 0 && sample.diskUsed > 0 && sample.diskUsed < sample.diskTotal);

    assert.equal(await sandbox.kill(), true);
    assert.equal(await sandbox.kill(), false);
    assert.equal(await sandbox.isRunning(), false);
    await assert.rejects(sandbox.getInfo(), SandboxNotFoundError);
  });

  test('another client joins a running sandbox by its id', async () => {
    const sandbox = await suite.createSandbox();
    await sandbox.files.write('/tmp/shared', 'by the first');
    const { connection } = suite;
    const joined = await Sandbox.connect(sandbox.sandboxId, connection);
    assert.equal(await joined.files.read('/tmp/shared'), 'by the first');
    assert.equal(await Sandbox.kill(sandbox.sandboxId, connection), true);
    assert.equal(await joined.isRunning(), false);
    await assert.rejects(Sandbox.connect(sandbox.sandboxId, connection), SandboxNotFoundError);
  });

  test('connecting never shortens a life, setting a time-out may', async () => {
    const sandbox = await suite.createSandbox({ timeoutMs: 600_000 });
    const { connection } = suite;
    const endsAtMs = async () => (await sandbox.getInfo()).endAt.getTime();
    const first = await endsAtMs();
    await Sandbox.connect(sandbox.sandboxId, { ...connection, timeoutMs: 60_000 });
    assert.equal(await endsAtMs(), first);
    await Sandbox.connect(sandbox.sandboxId, { ...connection, timeoutMs: 1_200_000 });
    assert.ok((await endsAtMs()) > first);
    await sandbox.setTimeout(60_000);
    assert.ok((await endsAtMs()) < first);
    await sandbox.kill();
  });

  test('a sandbox ends by itself when its time is over', async () => {
    const sandbox = await suite.createSandbox();
    const process = await sandbox.commands.run('sleep 600', { background: true, timeoutMs: 0 });
    const processEnded = assert.rejects(process.wait());
    await sandbox.setTimeout(1000);
    // The command's stream breaks when the VM goes, which is the event to wait for.
    await processEnded;
    assert.equal(await sandbox.isRunning(), false);
    await assert.rejects(sandbox.getInfo(), SandboxNotFoundError);
  });

  test('the list filters by metadata, state and template, orders, and goes page by page', async () => {
    const { connection } = suite;
    const made = [
      await suite.createSandbox({ metadata: { group: 'a b&c=d', n: '1' } }),
      await suite.createSandbox({ metadata: { group: 'a b&c=d', n: '2' } }),
      await suite.createSandbox({ metadata: { group: 'other', n: '3' } }),
    ];
    const ids = made.map(({ sandboxId }) => sandboxId);
    const list = async (options: Parameters<typeof Sandbox.list>[0]) => {
      const paginator = Sandbox.list({ ...connection, ...options });
      const pages: string[][] = [];
      while (paginator.hasNext) pages.push((await paginator.nextItems()).map(({ sandboxId }) => sandboxId));
      return pages;
    };
    assert.deepEqual(await list({ query: { metadata: { group: 'a b&c=d' } }, order: 'asc' }), [ids.slice(0, 2)]);
    assert.deepEqual(await list({ query: { metadata: { group: 'a b&c=d', n: '2' } } }), [[ids[1]]]);
    assert.deepEqual((await list({ query: { metadata: { group: 'nobody' } } })).flat(), []);
    assert.deepEqual((await list({ query: { state: ['paused'] } })).flat(), []);
    assert.deepEqual((await list({ query: { template: 'base' }, order: 'desc' })).flat(), ids.toReversed());
    const pages = await list({ limit: 2, order: 'asc', query: { state: ['running'] } });
    assert.deepEqual(
      pages.map(({ length }) => length),
      [2, 1],
    );
    assert.deepEqual(pages.flat(), ids);
    await Promise.all(made.map((sandbox) => sandbox.kill()));
  });

  test('all of it can be asked for by id alone, by a client that was told once where the server is', async () => {
    const e2b = new E2B(suite.connection);
    const { sandboxId } = await e2b.Sandbox.create('base', {
      timeoutMs: 300_000,
      lifecycle: { onTimeout: { action: 'pause', keepMemory: false } },
    });
    const started = new Date();
    const info = await e2b.Sandbox.getFullInfo(sandboxId);
    assert.deepEqual(info.lifecycle, { onTimeout: 'pause', autoResume: false });
    assert.deepEqual(info.volumeMounts, []);
    await e2b.Sandbox.updateNetwork(sandboxId, { denyOut: ['192.0.2.0/24'] });
    assert.partialDeepStrictEqual((await e2b.Sandbox.getInfo(sandboxId)).network, { denyOut: ['192.0.2.0/24'] });
    await e2b.Sandbox.setTimeout(sandboxId, 100_000);
    assert.ok((await e2b.Sandbox.getInfo(sandboxId)).endAt < info.endAt);
    const samples = await e2b.Sandbox.getMetrics(sandboxId, { start: info.startedAt, end: new Date() });
    assert.ok(samples.every(({ timestamp }) => timestamp >= new Date(info.startedAt.getTime() - 1000)));
    assert.deepEqual(await e2b.Sandbox.getMetrics(sandboxId, { end: new Date(info.startedAt.getTime() - 60_000) }), []);
    const since = (startedAfter: Date) => e2b.Sandbox.list({ query: { startedAfter } }).nextItems();
    assert.ok((await since(info.startedAt)).some((each) => each.sandboxId === sandboxId));
    assert.deepEqual(await since(new Date(started.getTime() + 60_000)), []);

    assert.equal(await e2b.Sandbox.pause(sandboxId), true);
    assert.equal(await e2b.Sandbox.betaPause(sandboxId), false);
    const joined = await e2b.Sandbox.connect(sandboxId);
    assert.equal((await joined.commands.run('echo on')).stdout, 'on\n');
    const [copy] = await e2b.Sandbox.fork(sandboxId, { timeoutMs: 60_000 });
    assert.ok(copy instanceof Sandbox);
    assert.equal((await copy.commands.run('hostname')).stdout, `${copy.sandboxId}\n`);
    assert.equal(await e2b.Sandbox.kill(copy.sandboxId), true);
    assert.equal(await e2b.Sandbox.kill(sandboxId), true);
  });

  test('none is open to whoever knows its id, whatever was asked for', async () => {
    const sandbox = await suite.createSandbox({ secure: false });
    await sandbox.files.write('/home/user/closed.txt', 'not for all');
    const response = await fetch(`${suite.edgeUrl}/files?path=/home/user/closed.txt&username=user`, {
      headers: { 'E2b-Sandbox-Id': sandbox.sandboxId, 'E2b-Sandbox-Port': '49983' },
    });
    assert.equal(response.status, 401);
    await sandbox.kill();
  });

  test('what this server cannot do is refused, and nothing is made', async () => {
    const { connection } = suite;
    const refused: SandboxOpts[] = [
      { network: { rules: { 'x.example': [{ transform: { headers: { a: 'b' } } }] } } },
      { network: { egressProxy: { address: '192.0.2.1:1080' } } },
      { volumeMounts: { '/data': 'a-volume' } },
      { iam: { tokens: { a: { audience: 'x', tokenType: 'JWT-SVID' } } } },
    ];
    for (const options of refused)
      await assert.rejects(Sandbox.create({ ...connection, metadata: { refused: 'yes' }, ...options }), /501/);
    assert.deepEqual(await Sandbox.list({ ...connection, query: { metadata: { refused: 'yes' } } }).nextItems(), []);
  });

  test('unknown ids, templates and keys are told apart', async () => {
    const { connection } = suite;
    const unknown = `i${'0'.repeat(20)}`;
    await assert.rejects(Sandbox.connect(unknown, connection), SandboxNotFoundError);
    await assert.rejects(Sandbox.getInfo(unknown, connection), NotFoundError);
    assert.equal(await Sandbox.kill(unknown, connection), false);
    await assert.rejects(Sandbox.setTimeout(unknown, 1000, connection), SandboxNotFoundError);
    await assert.rejects(Sandbox.create('no-such-template', connection), /no-such-template/);
    const foreign = { ...connection, apiKey: `e2b_${'0'.repeat(40)}` };
    await assert.rejects(Sandbox.create(foreign), AuthenticationError);
    await assert.rejects(Sandbox.list(foreign).nextItems(), AuthenticationError);
  });

  test('two sandboxes share nothing', async () => {
    const [one, two] = await Promise.all([suite.createSandbox(), suite.createSandbox()]);
    await one.files.write('/tmp/secret', 'of one');
    assert.equal(await two.files.exists('/tmp/secret'), false);
    const processes = (sandbox: Sandbox) => sandbox.commands.list();
    await one.commands.run('sleep 600', { background: true });
    assert.equal((await processes(one)).length, 1);
    assert.equal((await processes(two)).length, 0);
    const bootId = async (sandbox: Sandbox) => (await sandbox.files.read('/proc/sys/kernel/random/boot_id')).trim();
    assert.notEqual(await bootId(one), await bootId(two));
    // The token of one opens nothing of the other.
    const response = await fetch(`${suite.edgeUrl}/files?path=/tmp/secret`, {
      headers: {
        'E2b-Sandbox-Id': one.sandboxId,
        'E2b-Sandbox-Port': '49983',
        'X-Access-Token': await tokenOf(two.sandboxId),
      },
    });
    assert.equal(response.status, 401);
    await Promise.all([one.kill(), two.kill()]);
  });

  async function tokenOf(sandboxId: string): Promise<string> {
    const { apiUrl } = suite;
    const { apiKey } = suite.server;
    const response = await fetch(`${apiUrl}/sandboxes/${sandboxId}/connect`, {
      method: 'POST',
      headers: { 'X-API-Key': apiKey, 'Content-Type': 'application/json' },
      body: JSON.stringify({ timeout: 60 }),
    });
    return z.object({ envdAccessToken: z.string() }).parse(await response.json()).envdAccessToken;
  }
});
