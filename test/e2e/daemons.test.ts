import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import type { NestboxPaths } from '@nestbox/kit';
import { Sandbox } from 'e2b';
import { z } from 'zod';
import { startDaemon } from '../../packages/control-plane/src/testing/daemon.ts';
import { findLeftovers } from '../support/leftovers.ts';
import { makeStateFolder, vmsCannotRun } from '../support/state-folder.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const HOST_AGENT = join(ROOT, 'packages', 'host-agent', 'src', 'main.ts');

const readyLine = z.object({ msg: z.literal('ready'), port: z.number() });

/** The host agent as a process of its own, on any free port; resolves when it is ready. */
async function startHostAgent(paths: NestboxPaths, tokenFile: string): Promise<{ child: ChildProcess; port: number }> {
  const child = spawn(process.execPath, [HOST_AGENT, '--listen', '127.0.0.1:0', '--token-file', tokenFile], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, NESTBOX_DIR: paths.stateDir },
  });
  const said: string[] = [];
  for await (const line of createInterface({ input: child.stderr })) {
    said.push(line);
    const ready = readyLine.safeParse(line.startsWith('{') ? JSON.parse(line) : undefined);
    if (ready.success) {
      child.stderr.resume();
      return { child, port: ready.data.port };
    }
  }
  throw new Error(`The host agent did not become ready: ${said.join('\n')}`);
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGTERM');
  const [exitCode] = await once(child, 'exit');
  assert.equal(exitCode, 0);
}

/** The configuration that the documentation shows, with the secrets and addresses of this test in their places. */
async function configurationAsDocumented(changes: Readonly<Record<string, string>>): Promise<string> {
  const page = await readFile(join(ROOT, 'docs', 'operations.md'), 'utf8');
  const shown = /^```json\n(\{\n {2}"databasePath"[\s\S]*?)^```$/m.exec(page)?.[1];
  assert.ok(shown !== undefined, 'docs/operations.md shows a configuration');
  return Object.entries(changes).reduce((text, [from, to]) => {
    assert.ok(text.includes(from), from);
    return text.replaceAll(from, to);
  }, shown);
}

test('the two daemons apart, configured as the documentation says, make a sandbox', {
  skip: vmsCannotRun(),
}, async () => {
  await using paths = await makeStateFolder();
  const token = randomBytes(32).toString('hex');
  const apiKey = `e2b_${randomBytes(20).toString('hex')}`;
  const tokenFile = join(paths.stateDir, 'host-token');
  const configPath = join(paths.stateDir, 'control-plane.json');
  await writeFile(tokenFile, `${token}\n`, { mode: 0o600 });

  await using cleanup = new AsyncDisposableStack();
  const host = await startHostAgent(paths, tokenFile);
  cleanup.defer(() => end(host.child));
  const documented = await configurationAsDocumented({
    '/var/lib/nestbox-control-plane': paths.stateDir,
    [`e2b_${'0'.repeat(40)}`]: apiKey,
    ['0'.repeat(64)]: token,
    '10.0.0.5': '127.0.0.1',
    '3002': String(host.port),
  });
  const anyPort = { host: '127.0.0.1', port: 0 };
  await writeFile(configPath, JSON.stringify({ ...JSON.parse(documented), api: anyPort, edge: anyPort }));
  const { child, apiUrl, edgeUrl } = await startDaemon(configPath);
  cleanup.defer(() => end(child));

  const sandbox = await Sandbox.create({ apiUrl, sandboxUrl: edgeUrl, apiKey });
  assert.equal((await sandbox.commands.run('echo from afar')).stdout, 'from afar\n');
  assert.equal(await sandbox.kill(), true);
  await cleanup.disposeAsync();
  assert.deepEqual(await findLeftovers(paths), []);
});
