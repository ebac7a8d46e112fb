import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { rm, symlink } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import { resolvePaths } from '@nestbox/kit';
import { Sandbox } from 'e2b';
import { findLeftovers, vmProcesses } from '../support/leftovers.ts';
import { outcomeOf, runNestbox, spawnNestbox } from '../support/nestbox-command.ts';
import { makeStateFolder, vmsCannotRun } from '../support/state-folder.ts';
import { useServer } from '../support/suite.ts';

describe('nestbox run on a running server', { skip: vmsCannotRun() }, () => {
  const suite = useServer();
  const run = (args: readonly string[], input?: string | Uint8Array) =>
    runNestbox(['run', ...args], { NESTBOX_DIR: suite.paths.stateDir }, input);

  test('input, output, errors and the exit code pass through, and no sandbox is left', async () => {
    const outcome = await run(
      ['-e', 'GREETING=hello=you', '-w', '/tmp', '--', 'sh', '-c', 'cat; pwd; echo "$GREETING" >&2; exit 7'],
      'from outside\n',
    );
    assert.deepEqual(
      [outcome.stdout.toString(), outcome.stderr, outcome.exitCode],
      ['from outside\n/tmp\n', 'hello=you\n', 7],
    );
    assert.deepEqual(await Sandbox.list(suite.server.connection).nextItems(), []);
  });

  test('bytes are not touched, however many', async () => {
    const bytes = randomBytes(5_000_000);
    const outcome = await run(['--', 'cat'], bytes);
    assert.equal(outcome.exitCode, 0, outcome.stderr);
    assert.equal(outcome.stdout.length, bytes.length);
    const digest = (data: Uint8Array) => createHash('sha256').update(data).digest('hex');
    assert.equal(digest(outcome.stdout), digest(bytes));
  });

  test('words of the command stay as they are, options of ours among them', async () => {
    const outcome = await run(['printf', '%s|', '--json', 'a b', '$HOME', '', '-e', 'x=1']);
    assert.equal(outcome.stdout.toString(), '--json|a b|$HOME||-e|x=1|');
  });

  test('a command that a signal ends answers 128 and its number; one that is not there 127', async () => {
    assert.equal((await run(['--', 'sh', '-c', 'kill -SEGV $$'])).exitCode, 139);
    assert.equal((await run(['--', 'no-such-command'])).exitCode, 127);
  });

  test('a command whose time is over answers 124', async () => {
    const outcome = await run(['--timeout', '1', '--', 'sleep', '600']);
    assert.equal(outcome.exitCode, 124);
    assert.match(outcome.stderr, /\[deadline_exceeded\]/);
  });

  test('the user and the template are chosen, and unknown ones told with exit code 125', async () => {
    assert.equal((await run(['-u', 'root', '--', 'id', '-un'])).stdout.toString(), 'root\n');
    const noUser = await run(['-u', 'nobody-knows', '--', 'true']);
    assert.deepEqual([noUser.exitCode, /nobody-knows/.test(noUser.stderr)], [125, true]);
    const noTemplate = await run(['-t', 'no-such-template', '--', 'true']);
    assert.deepEqual([noTemplate.exitCode, /\[template_not_found\]/.test(noTemplate.stderr)], [125, true]);
    const noFolder = await run(['-w', '/no/such/dir', '--', 'true']);
    assert.deepEqual([noFolder.exitCode, /\/no\/such\/dir/.test(noFolder.stderr)], [125, true]);
  });

  test('with --json there is one object', async () => {
    const outcome = await run(['--json', '--', 'sh', '-c', 'echo out; echo err >&2; exit 3']);
    assert.equal(outcome.exitCode, 3);
    assert.partialDeepStrictEqual(JSON.parse(outcome.stdout.toString()), {
      exitCode: 3,
      signal: null,
      stdout: 'out\n',
      stderr: 'err\n',
    });
  });

  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const) {
    test(`${signal} ends the sandbox`, async () => {
      const child = spawnNestbox(
        ['run', '--', 'sh', '-c', 'echo started; exec sleep 600'],
        { NESTBOX_DIR: suite.paths.stateDir },
        { stdio: ['ignore', 'pipe', 'pipe'] },
      );
      const outcome = outcomeOf(child);
      assert.ok(child.stdout);
      await once(child.stdout, 'data');
      child.kill(signal);
      assert.equal((await outcome).exitCode, code);
      assert.deepEqual(await Sandbox.list(suite.server.connection).nextItems(), []);
    });
  }

  test('when nobody reads the output any more, the command ends as one killed by SIGPIPE', async () => {
    const child = spawnNestbox(
      ['run', '--', 'yes'],
      { NESTBOX_DIR: suite.paths.stateDir },
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    const ended = once(child, 'exit');
    assert.ok(child.stdout);
    await once(child.stdout, 'data');
    child.stdout.destroy();
    assert.deepEqual(await ended, [141, null]);
    assert.deepEqual(await Sandbox.list(suite.server.connection).nextItems(), []);
  });
});

describe('nestbox run without a server', { skip: vmsCannotRun() }, () => {
  let paths: Awaited<ReturnType<typeof makeStateFolder>> | undefined;
  before(async () => {
    paths = await makeStateFolder();
  });
  after(() => paths?.[Symbol.asyncDispose]());

  test('brings its own, which leaves nothing', async () => {
    assert.ok(paths);
    const outcome = await runNestbox(['run', '--', 'cat'], { NESTBOX_DIR: paths.stateDir }, 'x');
    assert.deepEqual([outcome.stdout.toString(), outcome.stderr, outcome.exitCode], ['x', '', 0]);
    assert.deepEqual(await findLeftovers(paths), []);
  });

  test('the state folder may have any name', async (t) => {
    assert.ok(paths);
    const odd = `${paths.stateDir} odd: it's, 50% "ünï"=$x`;
    await symlink(paths.stateDir, odd);
    t.after(() => rm(odd));
    const outcome = await runNestbox(['run', '--', 'echo', 'here'], { NESTBOX_DIR: odd });
    assert.deepEqual([outcome.stdout.toString(), outcome.stderr, outcome.exitCode], ['here\n', '', 0]);
    assert.deepEqual(await findLeftovers(resolvePaths({ NESTBOX_DIR: odd })), []);
  });

  test('SIGTERM while the VM boots leaves nothing', async () => {
    assert.ok(paths);
    const child = spawnNestbox(['run', '--', 'sleep', '600'], { NESTBOX_DIR: paths.stateDir }, { stdio: 'ignore' });
    const ended = once(child, 'exit');
    while (vmProcesses(paths).length === 0 && child.exitCode === null) await new Promise((go) => setTimeout(go, 5));
    child.kill('SIGTERM');
    assert.deepEqual(await ended, [143, null]);
    assert.deepEqual(await findLeftovers(paths), []);
  });
});
