import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { createLogger, resolvePaths } from '@nestbox/kit';
import { z } from 'zod';
import { vmsCannotRun } from '../../../../test/support/state-folder.ts';
import { BASE_TEMPLATE_ID } from '../image/base-template.ts';
import type { GuestClient } from './guest-client.ts';
import { bootRestorableVm, type RestorableVmOptions } from './testing/restorable-vm.ts';

const logger = createLogger({ level: 'warn' });
const skip = vmsCannotRun();

/** Emulated, and beside other tests: minutes rather than the seconds it takes alone. */
const TIMEOUT_MS = 180_000;

const installed = z.object({ kernelPath: z.string(), initrdPath: z.string(), agentDiskPath: z.string() });

async function options(t: TestContext): Promise<RestorableVmOptions> {
  const { stateDir } = resolvePaths();
  const images = installed.parse(JSON.parse(await readFile(join(stateDir, 'images.json'), 'utf8')));
  const folder = await mkdtemp(join(tmpdir(), 'nestbox-restore-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return { ...images, rootfsPath: join(stateDir, 'templates', BASE_TEMPLATE_ID, 'rootfs.ext4'), folder };
}

async function run(guest: GuestClient, script: string): Promise<string> {
  const { stdout, stderr, exitCode } = await guest.exec({ cmd: '/bin/bash', args: ['-c', script] });
  assert.equal(exitCode, 0, `${script}: ${stderr}`);
  return stdout.toString().trim();
}

/** Starts a command that goes on by itself. */
async function leaveRunning(guest: GuestClient, script: string): Promise<void> {
  const events = guest.execStream({ cmd: '/bin/bash', args: ['-c', script] });
  await events.next();
  await events.return();
}

async function until(what: string, state: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + TIMEOUT_MS;
  while (!(await state())) {
    assert.ok(performance.now() < deadline, what);
    await delay(50);
  }
}

/** A server at an address of this machine that is not the gateway of the VM, which stands for the host there. */
async function startServer(t: TestContext): Promise<{ address: string; port: number; connections: Socket[] }> {
  const address = Object.values(networkInterfaces())
    .flatMap((entries) => entries ?? [])
    .find(({ family, internal }) => family === 'IPv4' && !internal)?.address;
  assert.ok(address !== undefined, 'this test needs a network interface beside lo');
  const connections: Socket[] = [];
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    connections.push(socket);
  });
  server.listen(0, address);
  await once(server, 'listening');
  t.after(() => {
    server.close();
    for (const socket of connections) socket.destroy();
  });
  return { address, port: (server.address() as AddressInfo).port, connections };
}

test('VMs restored from one running VM are each a sandbox of their own, and know at once that time has passed', {
  skip,
}, async (t) => {
  const server = await startServer(t);
  const base = await bootRestorableVm(t, await options(t));
  await base.guest.waitUntilReady(TIMEOUT_MS);
  await base.guest.init({ sandboxId: 'itemplate', templateId: 't1', envVars: { GREETING: 'hello' } });
  await base.guest.warmUp({ rounds: 1, logger });

  // A program in the middle of waiting for an answer from outside, and a server on localhost.
  await leaveRunning(
    base.guest,
    `exec 3<>/dev/tcp/${server.address}/${server.port}; read -u 3 answer; echo "over: $?" >/tmp/outside`,
  );
  await leaveRunning(base.guest, 'exec python3 -m http.server 8000 --bind 127.0.0.1 --directory /run/e2b');
  await until('the program has connected', async () => server.connections.length === 1);
  const forwarded = 'grep -ci " 1500FEA9:1F40 .* 0A " /proc/net/tcp || true';
  await until('the port is forwarded', async () => (await run(base.guest, forwarded)) === '1');
  const stream = base.guest.execStream({ cmd: '/bin/sleep', args: ['1000'] });
  await stream.next();
  const snapshot = await base.snapshot();
  await assert.rejects(async () => {
    for await (const _event of stream);
  });
  await delay(1500);

  const drawn: string[] = [];
  for (const sandboxId of ['ifirst', 'isecond']) {
    const { guest } = await snapshot.restore();
    await guest.init({ sandboxId });

    const { offsetMs } = await guest.syncClock();
    assert.ok(Math.abs(offsetMs) < 50, `the clock is ${offsetMs} ms off`);
    const activity = await guest.activity();
    assert.deepEqual([activity.last_request_at_ms, activity.open_connections], [0, 0]);
    assert.ok(activity.running_processes >= 2, 'what ran goes on');

    await until(
      'the program hears of its end',
      async () => (await run(guest, 'cat /tmp/outside || true')) === 'over: 1',
    );
    assert.equal(await run(guest, 'hostname; hostname -i'), `${sandboxId}\n127.0.1.1`);
    assert.equal(await run(guest, 'grep -c itemplate /etc/hosts || true'), '0');
    assert.equal(await run(guest, 'cat /run/e2b/.E2B_SANDBOX_ID'), sandboxId);
    assert.equal(await run(guest, 'echo $GREETING $E2B_SANDBOX_ID $E2B_TEMPLATE_ID'), `hello ${sandboxId}`);
    assert.equal(await run(guest, forwarded), '1');
    drawn.push(
      await run(guest, 'od -An -N16 -tx1 /dev/urandom; cat /proc/sys/kernel/random/uuid'),
      await run(guest, 'python3 -c "import os; print(os.getrandom(16).hex())"'),
    );

    const again = await guest.syncClock();
    assert.ok(Math.abs(again.offsetMs) < 50, `the clock is ${again.offsetMs} ms off a second later`);
  }
  assert.equal(new Set(drawn).size, drawn.length, drawn.join('\n'));
});
