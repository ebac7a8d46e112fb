import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { describe, test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { GetSandboxLogsResponse_LogLineSchema, LogLevel } from '@nestbox/contract/host';
import { z } from 'zod';
import { createSandbox, listIds } from './testing/api-answers.ts';
import { HostDouble } from './testing/host-double.ts';
import { startTestServer, TEST_API_KEY, type TestServer } from './testing/start-test-server.ts';

const E2B = join(import.meta.dirname, '..', '..', '..', 'node_modules', '.bin', 'e2b');

/** Runs E2B's own command, unmodified, to its end. */
async function e2b(server: TestServer, ...args: string[]): Promise<{ exitCode: number | null; output: string }> {
  // A home of its own keeps it from the user's settings, `CI` from questions and from looking for newer versions.
  const home = await mkdtemp(join(tmpdir(), 'nestbox-e2b-home-'));
  try {
    const child = spawn(process.execPath, [E2B, ...args], {
      env: {
        PATH: process.env.PATH,
        HOME: home,
        CI: '1',
        NO_COLOR: '1',
        E2B_API_URL: server.apiUrl,
        E2B_SANDBOX_URL: server.edgeUrl,
        E2B_API_KEY: TEST_API_KEY,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]);
    return { exitCode: child.exitCode, output: stdout + stderr };
  } finally {
    await rm(home, { recursive: true, force: true });
  }
}

async function ok(server: TestServer, ...args: string[]): Promise<string> {
  const { exitCode, output } = await e2b(server, ...args);
  assert.equal(exitCode, 0, `e2b ${args.join(' ')}: ${output}`);
  return output;
}

const jsonLines = (output: string) =>
  output
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => z.looseObject({ timestamp: z.string() }).parse(JSON.parse(line)));

describe("E2B's own command line", () => {
  test('makes a sandbox, lists it, and kills it', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const made = await ok(server, 'sandbox', 'create', 'base', '--detach');
    const [id = ''] = await listIds(server);
    assert.ok(made.includes(id), made);
    const listed = z
      .array(z.looseObject({ sandboxId: z.string() }))
      .parse(JSON.parse(await ok(server, 'sandbox', 'list', '--format', 'json')));
    assert.deepEqual(
      listed.map(({ sandboxId }) => sandboxId),
      [id],
    );
    await ok(server, 'sandbox', 'kill', id);
    assert.deepEqual(await listIds(server), []);
  });

  test('shows the log, also of a sandbox that has ended, and what was used', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const id = await createSandbox(server);
    const line = { timeMs: 1_700_000_000_000n, level: LogLevel.INFO, message: 'Process with pid 7 started' };
    host.logLines.push(
      create(GetSandboxLogsResponse_LogLineSchema, { ...line, fields: { logger: 'process', command: 'echo one' } }),
      create(GetSandboxLogsResponse_LogLineSchema, { ...line, level: LogLevel.DEBUG, message: 'from the console' }),
    );
    const all = await ok(server, 'sandbox', 'logs', id, '--level', 'DEBUG', '--format', 'json');
    assert.deepEqual(
      jsonLines(all).map(({ message, command, timestamp }) => [message, command, timestamp]),
      [
        ['Process with pid 7 started', 'echo one', '2023-11-14T22:13:20.000Z'],
        ['from the console', undefined, '2023-11-14T22:13:20.000Z'],
      ],
    );
    assert.equal(jsonLines(await ok(server, 'sandbox', 'metrics', id, '--format', 'json'))[0]?.cpuUsedPct, 12.5);
    await ok(server, 'sandbox', 'kill', id);
    const followed = await ok(server, 'sandbox', 'logs', id, '--follow');
    assert.match(followed, /echo one/);
    assert.match(followed, /sandbox is closed/);
  });

  test('is told of a sandbox that never was', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const { exitCode, output } = await e2b(server, 'sandbox', 'logs', 'inobody');
    assert.equal(exitCode, 1);
    assert.match(output, /There is no sandbox/);
  });
});
