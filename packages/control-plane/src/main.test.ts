import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { describe, test } from 'node:test';
import { z } from 'zod';
import { DAEMON, type Daemon, HOST_TOKEN, listenAsHost, startDaemon } from './testing/daemon.ts';
import { HostDouble } from './testing/host-double.ts';
import { TEST_API_KEY } from './testing/start-test-server.ts';

describe('the standalone control plane', () => {
  test('drives a host over HTTP, and neither SIGTERM nor SIGKILL costs a sandbox', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'nestbox-daemon-'));
    await using host = await new HostDouble('remote').open((_request, response) => response.end('from the guest'));
    const { url, server, refused } = await listenAsHost(host);
    const configPath = join(folder, 'config.json');
    const config = {
      databasePath: join(folder, 'control-plane.db'),
      apiKey: TEST_API_KEY,
      tokenSeed: 'x'.repeat(32),
      api: { host: '127.0.0.1', port: 0 },
      edge: { host: '127.0.0.1', port: 0 },
      hosts: [{ id: 'remote', url, token: HOST_TOKEN, proxy: { socketPath: host.proxySocketPath } }],
    };
    await writeFile(configPath, JSON.stringify(config));
    let daemon: Daemon | undefined;
    try {
      const headers = { 'X-API-Key': TEST_API_KEY, 'Content-Type': 'application/json' };
      daemon = await startDaemon(configPath);
      const created = await fetch(`${daemon.apiUrl}/v2/sandboxes`, {
        method: 'POST',
        headers,
        body: '{"templateID":"base"}',
      });
      assert.equal(created.status, 201);
      const { sandboxID } = z.object({ sandboxID: z.string() }).parse(await created.json());

      for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
        const child: ChildProcess = daemon.child;
        const exited = once(child, 'exit');
        child.kill(signal);
        const [code] = await exited;
        assert.equal(code, signal === 'SIGTERM' ? 0 : null);
        daemon = await startDaemon(configPath);
        assert.equal((await fetch(`${daemon.apiUrl}/sandboxes/${sandboxID}`, { headers })).status, 200);
        const routing = { 'E2b-Sandbox-Id': sandboxID, 'E2b-Sandbox-Port': '80' };
        assert.equal(await (await fetch(daemon.edgeUrl, { headers: routing })).text(), 'from the guest');
      }
      assert.deepEqual(host.destroyed, []);
      assert.equal(refused(), 0);
    } finally {
      if (daemon !== undefined && daemon.child.exitCode === null) {
        const exited = once(daemon.child, 'exit');
        daemon.child.kill('SIGKILL');
        await exited;
      }
      server.closeAllConnections();
      server.close();
      await rm(folder, { recursive: true, force: true });
    }
  });

  test('waits for a create at the first signal, and for nothing at the second', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'nestbox-daemon-'));
    await using host = await new HostDouble('remote').open();
    host.createGate = Promise.withResolvers<void>().promise;
    const { url, server } = await listenAsHost(host);
    const configPath = join(folder, 'config.json');
    const config = {
      databasePath: join(folder, 'control-plane.db'),
      apiKey: TEST_API_KEY,
      tokenSeed: 'x'.repeat(32),
      api: { host: '127.0.0.1', port: 0 },
      edge: { host: '127.0.0.1', port: 0 },
      stopTimeoutSec: 600,
      hosts: [{ id: 'remote', url, token: HOST_TOKEN, proxy: { socketPath: host.proxySocketPath } }],
    };
    await writeFile(configPath, JSON.stringify(config));
    const { child, apiUrl } = await startDaemon(configPath);
    try {
      const exited = once(child, 'exit');
      const create = fetch(`${apiUrl}/v2/sandboxes`, {
        method: 'POST',
        headers: { 'X-API-Key': TEST_API_KEY, 'Content-Type': 'application/json' },
        body: '{"templateID":"base"}',
      });
      const cut = assert.rejects(create);
      await host.until(() => host.created.length === 1);
      child.kill('SIGTERM');
      // It has taken the signal when it takes no connection any more.
      for (;;) {
        try {
          await (await fetch(`${apiUrl}/health`, { headers: { Connection: 'close' } })).text();
        } catch {
          break;
        }
      }
      assert.equal(child.exitCode, null);
      child.kill('SIGTERM');
      assert.deepEqual((await exited).slice(0, 2), [143, null]);
      await cut;
    } finally {
      child.kill('SIGKILL');
      server.closeAllConnections();
      server.close();
      await rm(folder, { recursive: true, force: true });
    }
  });

  test('says what is wrong with its configuration and exits with 1', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'nestbox-daemon-'));
    try {
      const path = join(folder, 'config.json');
      for (const [content, expected] of [
        [undefined, /cannot be read/],
        ['{', /not valid JSON/],
        ['{"apiKey":"e2b_short","hots":[]}', /40 hexadecimal digits[\s\S]*hots|hots[\s\S]*40 hexadecimal digits/],
      ] as const) {
        if (content !== undefined) await writeFile(path, content);
        const child = spawn(process.execPath, [DAEMON, path], { stdio: ['ignore', 'ignore', 'pipe'] });
        const [output, [code]] = await Promise.all([text(child.stderr), once(child, 'exit')]);
        assert.equal(code, 1);
        assert.match(output, expected);
      }
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
});
