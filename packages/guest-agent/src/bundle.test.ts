import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { buildGuestAgentBundle, copyNativePackages } from './bundle.ts';
import { envelope, parseEnvelopes } from './testing/test-agent.ts';

test('the bundle runs with nothing but its native packages beside it', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'nestbox-bundle-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const bundle = await buildGuestAgentBundle(folder);
  await copyNativePackages(bundle, folder);
  assert.equal(bundle.bundlePath, join(folder, 'agent.mjs'));
  assert.ok((await stat(bundle.bundlePath)).size < 1024 * 1024, 'each byte is compiled at every cold boot');

  const agent = spawn(process.execPath, [bundle.bundlePath, '--listen', '127.0.0.1:0', '--runtime-dir', folder], {
    cwd: '/',
    env: { PATH: '/usr/bin:/bin' },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(async () => {
    agent.kill('SIGKILL');
    await once(agent, 'exit');
  });
  const [line] = await once(createInterface({ input: agent.stdout }), 'line');
  const address = /^nestbox: agent ready on (.*)$/.exec(String(line))?.[1];
  const call = (pty: object) =>
    fetch(`http://${address}/process.Process/Start`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/connect+json' },
      body: envelope({ process: { cmd: 'echo', args: ['bundled'] }, ...pty }),
    });
  for (const pty of [{}, { pty: { size: { cols: 80, rows: 24 } } }]) {
    const frames = parseEnvelopes(Buffer.from(await (await call(pty)).arrayBuffer()));
    assert.match(JSON.stringify(frames), /"status":"exit status 0"/);
  }
  assert.equal((await fetch(`http://${address}/files?path=/etc/passwd`)).status, 200);
});
