import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { request } from 'node:http';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { buffer, text } from 'node:stream/consumers';
import { type TestContext, test } from 'node:test';
import { createLogger, type NestboxPaths } from '@nestbox/kit';
import { z } from 'zod';
import { findLeftovers } from '../../../test/support/leftovers.ts';
import { makeStateFolder, vmsCannotRun } from '../../../test/support/state-folder.ts';
import { createGuestClient, type GuestClient } from './guest/guest-client.ts';
import { type HostAgent, startHostAgent } from './host-agent.ts';
import { testSpec } from './testing/test-host.ts';

const skip = vmsCannotRun();
const logger = createLogger({ level: 'warn' });
const DOOMED_HOST = join(import.meta.dirname, 'testing', 'doomed-vm-host.ts');

async function startHost(t: TestContext, paths: NestboxPaths): Promise<HostAgent> {
  const host = await startHostAgent({ paths, logger, networkPoolSize: 1 });
  t.after(() => host.stop({ destroySandboxes: true }));
  return host;
}

async function makePaths(t: TestContext): Promise<NestboxPaths> {
  const folder = await makeStateFolder();
  t.after(() => folder[Symbol.asyncDispose]());
  return folder;
}

function guestOf(t: TestContext, host: HostAgent, sandboxId: string): GuestClient {
  const guest = createGuestClient({ address: host.manager.target(sandboxId).address, accessToken: 'secret' });
  t.after(() => guest.close());
  return guest;
}

async function askThroughProxy(host: HostAgent, path: string): Promise<{ status: number; body: string }> {
  const outgoing = request({ socketPath: host.proxySocketPath, path, headers: { host: 'sandbox.example' } });
  outgoing.end();
  const [response] = await once(outgoing, 'response');
  return { status: response.statusCode, body: await text(response) };
}

test('a sandbox in a real VM runs commands, keeps files, serves the proxy, and leaves nothing', { skip }, async (t) => {
  const paths = await makePaths(t);
  const host = await startHost(t, paths);
  const spec = testSpec({ accessToken: 'secret', envVars: { GREETING: 'hello' } });
  const { result: sandbox } = await host.manager.create(spec);
  assert.equal(sandbox.state, 'running');
  const guest = guestOf(t, host, spec.sandboxId);

  const result = await guest.exec({ cmd: '/bin/sh', args: ['-c', 'echo $GREETING $E2B_SANDBOX_ID; exit 3'] });
  assert.equal(result.stdout.toString(), `hello ${spec.sandboxId}\n`);
  assert.equal(result.exitCode, 3);

  const content = randomBytes(3_000_000);
  await guest.writeFile('/root/data.bin', content);
  assert.ok(content.equals(await buffer(await guest.readFile('/root/data.bin'))));
  const metrics = await host.manager.metrics(spec.sandboxId);
  assert.ok(metrics.memTotalBytes > 100 * 2 ** 20 && metrics.cpuCount === sandbox.vcpuCount);

  const page = 'served from inside';
  await guest.writeFile('/root/www/index.txt', page);
  const server = guest.execStream({ cmd: 'python3', args: ['-m', 'http.server', '8000', '-d', '/root/www'] });
  await server.next();
  // The proxy dials again until the application listens; python takes its time under emulation.
  let answer = await askThroughProxy(host, `/proxy/${spec.sandboxId}/8000/index.txt`);
  for (let attempt = 0; attempt < 10 && answer.status === 502; attempt++)
    answer = await askThroughProxy(host, `/proxy/${spec.sandboxId}/8000/index.txt`);
  assert.deepEqual(answer, { status: 200, body: page });
  const closed = await askThroughProxy(host, `/proxy/${spec.sandboxId}/8001/`);
  assert.equal(closed.status, 502);
  assert.equal(JSON.parse(closed.body).error_code, 'port_not_open');
  await server.return();

  assert.equal(await host.manager.destroy(spec.sandboxId), true);
  const gone = await askThroughProxy(host, `/proxy/${spec.sandboxId}/8000/`);
  assert.equal(JSON.parse(gone.body).error_code, 'sandbox_not_found');
  await host.stop();
  assert.deepEqual(await findLeftovers(paths), []);
});

test('after kill -9 of the host agent a real VM is found again with its processes going on', { skip }, async (t) => {
  const paths = await makePaths(t);
  const doomed = spawn(process.execPath, [DOOMED_HOST, paths.stateDir, paths.runDir, paths.instance], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => doomed.kill('SIGKILL'));
  const [line] = await once(createInterface({ input: doomed.stdout }), 'line');
  const { sandboxId } = z.object({ sandboxId: z.string() }).parse(JSON.parse(String(line)));
  const exited = once(doomed, 'exit');
  doomed.kill('SIGKILL');
  await exited;

  const first = await startHost(t, paths);
  assert.equal(first.manager.get(sandboxId).state, 'running');
  const command = { cmd: '/bin/sh', args: ['-c', 'echo begun; while :; do sleep 0.2; done'] };
  const events = guestOf(t, first, sandboxId).execStream(command);
  const begun = await events.next();
  assert.ok(begun.value?.kind === 'start');
  const { pid } = begun.value;
  await events.return();
  await first.stop({ destroySandboxes: false });

  const second = await startHost(t, paths);
  const guest = guestOf(t, second, sandboxId);
  const attached = guest.connectToProcess(pid);
  const again = await attached.next();
  assert.ok(again.value?.kind === 'start' && again.value.pid === pid, 'the process goes on');
  assert.equal(await guest.killProcess(pid), true);
  for await (const event of attached) if (event.kind === 'end') assert.equal(event.exitCode, -1);

  await second.stop({ destroySandboxes: true });
  assert.deepEqual(await findLeftovers(paths), []);
});
