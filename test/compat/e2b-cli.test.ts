import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Sandbox } from 'e2b';
import { z } from 'zod';
import { type CommandOutcome, commandEnvironment, outcomeOf } from '../support/nestbox-command.ts';
import { vmsCannotRun } from '../support/state-folder.ts';
import { useServer } from '../support/suite.ts';

const E2B = join(import.meta.dirname, '..', '..', 'node_modules', '.bin', 'e2b');

describe("E2B's own command line", { skip: vmsCannotRun() }, () => {
  const suite = useServer();
  let home = '';
  before(async () => {
    home = await mkdtemp(join(tmpdir(), 'nestbox-e2b-home-'));
  });
  after(() => rm(home, { recursive: true, force: true }));

  /** `HOME` keeps it from the user's own settings, `CI` from questions and from looking for newer versions. */
  const e2b = (args: readonly string[], input?: string): Promise<CommandOutcome> => {
    const { apiUrl, sandboxUrl, apiKey } = suite.server.connection;
    const variables = { E2B_API_URL: apiUrl, E2B_SANDBOX_URL: sandboxUrl, E2B_API_KEY: apiKey };
    const child = spawn(process.execPath, [E2B, ...args], {
      env: commandEnvironment({ ...variables, HOME: home, CI: '1', NO_COLOR: '1' }),
      stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    });
    child.stdin?.end(input);
    return outcomeOf(child);
  };
  const ok = async (args: readonly string[], input?: string): Promise<string> => {
    const { exitCode, stdout, stderr } = await e2b(args, input);
    assert.equal(exitCode, 0, `e2b ${args.join(' ')}: ${stderr}${stdout}`);
    return stdout.toString('utf8');
  };
  const listed = async () =>
    z.array(z.looseObject({ sandboxId: z.string() })).parse(JSON.parse(await ok(['sandbox', 'list', '-f', 'json'])));

  test('makes a sandbox, lists it, and kills it', async () => {
    const made = await ok(['sandbox', 'create', 'base', '--detach']);
    const [sandboxId = ''] = /\bi[a-z0-9]{20}\b/.exec(made) ?? [];
    assert.ok(
      (await listed()).some((each) => each.sandboxId === sandboxId),
      made,
    );
    await ok(['sandbox', 'kill', sandboxId]);
    assert.ok(!(await listed()).some((each) => each.sandboxId === sandboxId));
  });

  test('runs a command, and tells its exit code', async () => {
    const { sandboxId } = await suite.createSandbox();
    assert.match(await ok(['sandbox', 'exec', sandboxId, '--', 'echo', 'from the guest']), /from the guest/);
    assert.equal((await e2b(['sandbox', 'exec', sandboxId, '--', 'sh', '-c', 'exit 7'])).exitCode, 7);
  });

  test('shows what was logged, and what was used', async () => {
    const sandbox = await suite.createSandbox();
    await sandbox.commands.run('echo one');
    const lines = (await ok(['sandbox', 'logs', sandbox.sandboxId, '--format', 'json']))
      .trim()
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) =>
        z.looseObject({ event_type: z.string().optional(), command: z.string().optional() }).parse(JSON.parse(line)),
      );
    assert.ok(
      lines.some(({ command }) => command?.includes('echo one')),
      JSON.stringify(lines),
    );
    assert.ok(lines.some((line) => line.event_type === 'process_end'));
    assert.match(await ok(['sandbox', 'metrics', sandbox.sandboxId, '--format', 'json']), /"cpuUsedPct":/);
    assert.equal(await Sandbox.kill(sandbox.sandboxId, suite.server.connection), true);
    assert.match(await ok(['sandbox', 'logs', sandbox.sandboxId]), /Sandbox ended: It was destroyed/);
  });
});
