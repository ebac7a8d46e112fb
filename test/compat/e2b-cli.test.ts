import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { Sandbox } from 'e2b';
import { z } from 'zod';
import { forEachAddressing } from '../support/each-addressing.ts';
import { type CommandOutcome, commandEnvironment, outcomeOf } from '../support/nestbox-command.ts';
import { typeInto } from '../support/typed-session.ts';

const E2B = join(import.meta.dirname, '..', '..', 'node_modules', '.bin', 'e2b');
const NAMES = pathToFileURL(join(import.meta.dirname, '..', 'support', 'lead-names-here.ts')).href;

forEachAddressing("E2B's own command line", {}, (suite) => {
  let home = '';
  before(async () => {
    home = await mkdtemp(join(tmpdir(), 'nestbox-e2b-home-'));
  });
  after(() => rm(home, { recursive: true, force: true }));

  /** `HOME` keeps it from the user's own settings, `CI` from questions and from looking for newer versions. */
  const environment = () => commandEnvironment({ ...suite.variables, HOME: home, CI: '1', NO_COLOR: '1' });
  const command = (args: readonly string[]) => [
    process.execPath,
    ...(suite.addressing === 'domain' ? ['--import', NAMES] : []),
    E2B,
    ...args,
  ];
  const e2b = (args: readonly string[]): Promise<CommandOutcome> => {
    const [file = '', ...words] = command(args);
    return outcomeOf(spawn(file, words, { env: environment(), stdio: ['ignore', 'pipe', 'pipe'] }));
  };
  const ok = async (args: readonly string[]): Promise<string> => {
    const { exitCode, stdout, stderr } = await e2b(args);
    assert.equal(exitCode, 0, `e2b ${args.join(' ')}: ${stderr}${stdout}`);
    return stdout.toString('utf8');
  };
  const listed = async (...options: string[]) =>
    z
      .array(z.looseObject({ sandboxId: z.string() }))
      .parse(JSON.parse(await ok(['sandbox', 'list', '-f', 'json', ...options])))
      .map(({ sandboxId }) => sandboxId);

  test('makes a sandbox, lists it, and kills it', async () => {
    const made = await ok(['sandbox', 'create', 'base', '--detach', '--timeout', '500']);
    const [sandboxId = ''] = /\bi[a-z0-9]{20}\b/.exec(made) ?? [];
    assert.ok((await listed()).includes(sandboxId), made);
    const { startedAt, endAt } = await Sandbox.getInfo(sandboxId, suite.connection);
    assert.equal(Math.round((endAt.getTime() - startedAt.getTime()) / 1000), 500);
    assert.ok((await listed('--template', 'base')).includes(sandboxId));
    assert.deepEqual(await listed('--metadata', 'made=never'), []);
    await ok(['sandbox', 'kill', sandboxId]);
    assert.ok(!(await listed()).includes(sandboxId));
  });

  test('runs a command, as whom and where it is told, and tells its exit code', async () => {
    const { sandboxId } = await suite.createSandbox();
    const options = ['--user', 'root', '--cwd', '/usr', '--env', 'COLOUR=blue'];
    const said = await ok([
      'sandbox',
      'exec',
      ...options,
      sandboxId,
      '--',
      'sh',
      '-c',
      'echo $(whoami) $(pwd) $COLOUR',
    ]);
    assert.match(said, /root \/usr blue/);
    assert.equal((await e2b(['sandbox', 'exec', sandboxId, '--', 'sh', '-c', 'exit 7'])).exitCode, 7);
  });

  test('is a terminal in a sandbox', async () => {
    const { sandboxId } = await suite.createSandbox();
    const args = ['sandbox', 'connect', '--user', 'root', '--cwd', '/usr', '--env', 'COLOUR=blue', sandboxId];
    const { shown, exitCode } = await typeInto(command(args), environment(), [
      // The arithmetic tells an answer from the echo of what was typed.
      [/# $/, 'stty size; echo $(whoami)-$(pwd)-$COLOUR-$((40 + 2))\n'],
      [/30 100\r+\nroot-\/usr-blue-42[\s\S]*# $/, 'exit\n'],
    ]);
    assert.equal(exitCode, 0, shown);
    assert.match(shown, /Closing terminal connection/);
  });

  test('pauses, resumes and describes a sandbox', async () => {
    const sandbox = await suite.createSandbox({ metadata: { purpose: 'described' } });
    const { sandboxId } = sandbox;
    await sandbox.files.write('/dev/shm/kept.txt', 'in memory');
    const described = async () => {
      const info = JSON.parse(await ok(['sandbox', 'info', '--format', 'json', sandboxId]));
      return z.looseObject({ sandboxId: z.string(), state: z.string() }).parse(info);
    };
    assert.partialDeepStrictEqual(await described(), {
      sandboxId,
      name: 'base',
      state: 'running',
      metadata: { purpose: 'described' },
      lifecycle: { onTimeout: 'kill', autoResume: false },
    });
    assert.match(await ok(['sandbox', 'pause', sandboxId]), /paused/);
    assert.equal((await described()).state, 'paused');
    assert.ok((await listed('--state', 'paused')).includes(sandboxId));
    assert.match(await ok(['sandbox', 'pause', sandboxId]), /already paused/);
    assert.match(await ok(['sandbox', 'resume', sandboxId]), /resumed/);
    assert.match(await ok(['sandbox', 'info', sandboxId]), /State.*running/);
    assert.equal(await sandbox.files.read('/dev/shm/kept.txt'), 'in memory');
    const unknown = `i${'0'.repeat(20)}`;
    for (const verb of ['pause', 'resume', 'info', 'connect'])
      assert.equal((await e2b(['sandbox', verb, unknown])).exitCode, 1, verb);
    await sandbox.kill();
  });

  test('makes, lists and deletes snapshots', async () => {
    const { sandboxId } = await suite.createSandbox();
    const name = `by-the-command-line-${suite.addressing}`;
    assert.match(await ok(['sandbox', 'snapshot', 'create', '--name', name, sandboxId]), new RegExp(name));
    assert.match(
      await ok(['sandbox', 'snapshot', 'list', '--format', 'json', sandboxId]),
      new RegExp(`${name}:default`),
    );
    await ok(['sandbox', 'snapshot', 'delete', name]);
    assert.doesNotMatch(await ok(['sandbox', 'snapshot', 'list']), new RegExp(name));
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
      lines.some(({ command: run }) => run?.includes('echo one')),
      JSON.stringify(lines),
    );
    assert.ok(lines.some((line) => line.event_type === 'process_end'));
    assert.match(await ok(['sandbox', 'metrics', sandbox.sandboxId, '--format', 'json']), /"cpuUsedPct":/);
    assert.equal(await Sandbox.kill(sandbox.sandboxId, suite.connection), true);
    assert.match(await ok(['sandbox', 'logs', sandbox.sandboxId]), /Sandbox ended: It was destroyed/);
  });
});
