import assert from 'node:assert/strict';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { describe, test } from 'node:test';
import { type RunningCommand, runCommand } from '../../packages/cli/src/client/command-session.ts';
import { connectToGuest } from '../../packages/cli/src/client/guest-agent.ts';
import { startNativeAgent } from '../support/native-agent.ts';
import { commandEnvironment } from '../support/nestbox-command.ts';
import { vmsCannotRun } from '../support/state-folder.ts';
import { useSandbox } from '../support/suite.ts';

const COMMAND = join(import.meta.dirname, '..', '..', 'packages', 'cli', 'bin', 'nestbox.mjs');

describe('nestbox sandbox shell', { skip: vmsCannotRun() }, () => {
  const suite = useSandbox();

  test('is a terminal in the sandbox: keys, size, resize, exit code; afterwards ours is as it was', async () => {
    // The terminal on this side is one of a guest agent that runs as a process of this machine.
    await using agent = await startNativeAgent();
    const here = connectToGuest(
      { apiUrl: '', apiKey: '', sandboxUrl: agent.url },
      { sandboxId: 'i0', accessToken: undefined, domain: undefined },
      'root',
    );
    const keys = new PassThrough();
    let ours: RunningCommand | undefined;
    let shown = '';
    // What is done when the screen shows what; the arithmetic tells an answer from the echo of what was typed.
    const answers: [RegExp, () => unknown][] = [
      [/\$ $/, () => keys.write('stty size; echo one-$((40 + 2))\n')],
      [/30 100\r\none-42/, () => ours?.resize({ cols: 132, rows: 50 })],
      [
        /one-42[\s\S]*\$ /,
        () => keys.write('while [ "$(stty size)" != "50 132" ]; do sleep 0.1; done; echo two-$((41 + 2))\n'),
      ],
      [/two-43/, () => keys.write('exit 6\n')],
    ];
    const { PATH = '' } = commandEnvironment({});
    const session = runCommand(
      here,
      {
        file: '/bin/sh',
        args: ['-c', '"$1" sandbox shell "$2"; echo code-$?; stty -a', 'sh', COMMAND, suite.sandbox.sandboxId],
        envVars: { PATH, NESTBOX_DIR: suite.paths.stateDir, TERM: 'dumb' },
        cwd: '/tmp',
        timeoutMs: 60_000,
        terminal: { cols: 100, rows: 30 },
      },
      {
        input: keys,
        writeOutput: async (bytes) => {
          shown += Buffer.from(bytes).toString('utf8');
          while (answers[0]?.[0].test(shown)) await answers.shift()?.[1]();
        },
        writeError: async () => {},
      },
      new AbortController().signal,
      (started) => {
        ours = started;
      },
    );
    await session.catch((cause: unknown) => {
      throw new Error(`the session failed after: ${shown}`, { cause });
    });
    assert.deepEqual(answers, [], shown);
    assert.match(shown, /code-6\r\n/);
    assert.match(shown, / icanon/);
    assert.match(shown, / echo /);
  });
});
