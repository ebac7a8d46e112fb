import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Sandbox, SandboxNotFoundError } from 'e2b';
import { forEachAddressing } from '../support/each-addressing.ts';

const COUNT = 'n=0; while true; do n=$((n+1)); echo $n > /dev/shm/n; sleep 0.1; done';

forEachAddressing('pausing and resuming, by the e2b client', {}, (suite) => {
  async function count(sandbox: Sandbox): Promise<number> {
    return Number((await sandbox.files.read('/dev/shm/n')).trim() || Number.NaN);
  }

  async function untilCount(sandbox: Sandbox, least: number): Promise<number> {
    for (const endsAt = Date.now() + 30_000; Date.now() < endsAt; await sleep(50)) {
      const reached = await count(sandbox).catch(() => Number.NaN);
      if (reached >= least) return reached;
    }
    throw new Error(`the program did not count to ${least}`);
  }

  async function untilState(sandbox: Sandbox, state: string): Promise<void> {
    for (const endsAt = Date.now() + 30_000; Date.now() < endsAt; await sleep(50))
      if ((await sandbox.getInfo()).state === state) return;
    throw new Error(`the sandbox did not become ${state}`);
  }

  test('programs, memory, files and variables go on where they were', async () => {
    const sandbox = await suite.createSandbox({ envs: { COLOUR: 'blue' } });
    const program = await sandbox.commands.run(COUNT, { background: true, timeoutMs: 0 });
    const cut = assert.rejects(program.wait());
    await sandbox.files.write('/home/user/kept.txt', 'on the disk');
    const before = await untilCount(sandbox, 3);

    const pausingMs = Date.now();
    assert.equal(await sandbox.pause(), true);
    // A stream that is open is given its time to end.
    const pausedAfterMs = Date.now() - pausingMs;
    await cut;
    assert.equal((await sandbox.getInfo()).state, 'paused');
    assert.equal(await sandbox.isRunning(), false);
    assert.equal(await sandbox.pause(), false, 'paused already');
    const listed = await Sandbox.list({ ...suite.connection, query: { state: ['paused'] } }).nextItems();
    assert.deepEqual(
      listed.map(({ sandboxId }) => sandboxId),
      [sandbox.sandboxId],
    );
    await sleep(4000);

    const again = await Sandbox.connect(sandbox.sandboxId, suite.connection);
    assert.equal((await again.getInfo()).state, 'running');
    const after = await count(again);
    // It slept as we did: what it would have counted in the meantime is not there.
    const most = before + pausedAfterMs / 100 + 15;
    assert.ok(after >= before && after < most, `${before} → ${after}, at most ${most}`);
    await untilCount(again, after + 3);
    assert.equal(await again.files.read('/home/user/kept.txt'), 'on the disk');
    assert.equal((await again.commands.run('echo $COLOUR')).stdout, 'blue\n');
    // The client that paused goes on with the same object.
    assert.equal((await sandbox.commands.run('hostname')).stdout.trim(), sandbox.sandboxId);
    const attached = await again.commands.connect(program.pid);
    assert.equal(await attached.kill(), true);
  });

  test('the end of its time pauses it when asked to, and a request wakes it', async () => {
    const sandbox = await suite.createSandbox({
      timeoutMs: 3000,
      lifecycle: { onTimeout: 'pause', autoResume: true },
    });
    await sandbox.files.write('/dev/shm/kept.txt', 'in memory');
    await untilState(sandbox, 'paused');
    // All of them wait for the one resume.
    const reads = await Promise.all([1, 2, 3].map(() => sandbox.files.read('/dev/shm/kept.txt')));
    assert.deepEqual(reads, ['in memory', 'in memory', 'in memory']);
    assert.equal((await sandbox.getInfo()).state, 'running');
    await untilState(sandbox, 'paused');
    assert.equal(await sandbox.kill(), true);
  });

  test('a sandbox that is paused can be killed, and one that is not there cannot be paused', async () => {
    const sandbox = await suite.createSandbox();
    await sandbox.pause();
    assert.equal(await sandbox.kill(), true);
    await assert.rejects(sandbox.pause(), SandboxNotFoundError);
    await assert.rejects(Sandbox.connect(sandbox.sandboxId, suite.connection), SandboxNotFoundError);
  });

  test('two that pause at once, two that connect at once, and a kill in between end well', async () => {
    const sandbox = await suite.createSandbox();
    assert.deepEqual((await Promise.all([sandbox.pause(), sandbox.pause()])).toSorted(), [false, true]);
    const { connection } = suite;
    await Promise.all([1, 2].map(() => Sandbox.connect(sandbox.sandboxId, connection)));
    assert.equal((await sandbox.commands.run('echo on')).stdout, 'on\n');
    const pausing = sandbox.pause().catch(() => undefined);
    assert.equal(await sandbox.kill(), true);
    await pausing;
    await assert.rejects(sandbox.getInfo(), SandboxNotFoundError);
  });

  // What becomes of the VM does not depend on how clients reach it.
  if (suite.addressing === 'domain') return;

  test('clock and randomness are right after a resume, and outgoing connections work or end at once', async () => {
    const sandbox = await suite.createSandbox();
    await sandbox.pause();
    await sleep(2000);
    await sandbox.connect(suite.connection);
    const askedMs = Date.now();
    const { stdout } = await sandbox.commands.run('date +%s%3N');
    const guestMs = Number(stdout.trim());
    assert.ok(guestMs >= askedMs - 50 && guestMs <= Date.now() + 50, `guest ${guestMs}, asked at ${askedMs}`);
    const resolved = await sandbox.commands.run('getent hosts localhost && cat /etc/resolv.conf');
    assert.match(resolved.stdout, /nameserver/);
  });

  test('without memory the disk is kept and programs are not', async () => {
    const sandbox = await suite.createSandbox();
    await sandbox.files.write('/home/user/kept.txt', 'written right before');
    await sandbox.files.write('/dev/shm/lost.txt', 'in memory');
    assert.equal(await sandbox.pause({ keepMemory: false }), true);
    await sandbox.connect(suite.connection);
    assert.equal(await sandbox.files.read('/home/user/kept.txt'), 'written right before');
    assert.equal(await sandbox.files.exists('/dev/shm/lost.txt'), false);
    // A second pause of a sandbox that booted from its disk keeps its memory like any other.
    await sandbox.files.write('/dev/shm/new.txt', 'in memory again');
    await sandbox.pause();
    await sandbox.connect(suite.connection);
    assert.equal(await sandbox.files.read('/dev/shm/new.txt'), 'in memory again');
  });

  test('the end of its time may keep the disk alone', async () => {
    const sandbox = await suite.createSandbox({
      timeoutMs: 2000,
      lifecycle: { onTimeout: { action: 'pause', keepMemory: false } },
    });
    await sandbox.files.write('/home/user/kept.txt', 'on the disk');
    await sandbox.files.write('/dev/shm/lost.txt', 'in memory');
    await untilState(sandbox, 'paused');
    await sandbox.connect({ timeoutMs: 600_000 });
    assert.equal(await sandbox.files.read('/home/user/kept.txt'), 'on the disk');
    assert.equal(await sandbox.files.exists('/dev/shm/lost.txt'), false);
  });

  test('a memory can be given up for a boot from the disk', async () => {
    const sandbox = await suite.createSandbox();
    await sandbox.commands.run('echo kept > /home/user/kept.txt; sync; echo lost > /dev/shm/lost.txt');
    await sandbox.pause();
    const rebooted = await Sandbox.connect(sandbox.sandboxId, { ...suite.connection, onResume: 'reboot' });
    assert.equal(await rebooted.files.read('/home/user/kept.txt'), 'kept\n');
    assert.equal(await rebooted.files.exists('/dev/shm/lost.txt'), false);
  });
});
