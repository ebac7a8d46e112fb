import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CommandExitError, InvalidArgumentError, NotFoundError, TimeoutError } from 'e2b';
import { forEachAddressing } from '../support/each-addressing.ts';

const SANDBOX = { envs: { FROM_CREATE: 'create', OVERRIDDEN: 'create' } };

forEachAddressing('commands of the e2b client', { sandbox: SANDBOX }, (suite) => {
  test('a foreground command answers its output and exit code', async () => {
    const result = await suite.sandbox.commands.run('echo out; echo err >&2');
    assert.deepEqual([result.stdout, result.stderr, result.exitCode], ['out\n', 'err\n', 0]);
  });

  test('a command that fails throws its exit code and what it had said', async () => {
    await assert.rejects(suite.sandbox.commands.run('echo before; echo why >&2; exit 37'), (error) => {
      assert.ok(error instanceof CommandExitError);
      assert.deepEqual([error.exitCode, error.stdout, error.stderr], [37, 'before\n', 'why\n']);
      return true;
    });
  });

  test('a command that is not there ends with 127', async () => {
    await assert.rejects(suite.sandbox.commands.run('no-such-command-anywhere'), { exitCode: 127 });
  });

  test('a Python program computes from what it is given', async () => {
    await suite.sandbox.files.write('/home/user/numbers.csv', 'n\n3\n4\n5\n');
    const { stdout } = await suite.sandbox.commands.run(
      `python3 -c 'import csv; print(sum(int(row["n"])**2 for row in csv.DictReader(open("numbers.csv"))))'`,
    );
    assert.equal(stdout, '50\n');
  });

  test('output arrives piece by piece while the command runs', async () => {
    // The command waits for a file that is made only after its first output has arrived.
    const pieces: string[] = [];
    const handle = await suite.sandbox.commands.run(
      'echo first; while [ ! -e /tmp/go-on ]; do sleep 0.05; done; echo second',
      {
        background: true,
        onStdout: async (text) => {
          pieces.push(text);
          if (pieces.length === 1) await suite.sandbox.files.write('/tmp/go-on', '');
        },
      },
    );
    assert.equal((await handle.wait()).stdout, 'first\nsecond\n');
    assert.deepEqual(pieces, ['first\n', 'second\n']);
  });

  test('a background command is listed, goes on after a disconnect, and can be joined again', async () => {
    const { commands } = suite.sandbox;
    const first = await commands.run('while [ ! -e /tmp/end-of-joined ]; do sleep 0.05; done; echo done; exit 3', {
      background: true,
    });
    const listed = (await commands.list()).find(({ pid }) => pid === first.pid);
    assert.equal(listed?.cmd, '/bin/bash');
    assert.deepEqual(listed.args.slice(0, 2), ['-l', '-c']);
    await first.disconnect();

    let heard = '';
    const second = await commands.connect(first.pid, {
      onStdout: (text) => {
        heard += text;
      },
    });
    assert.equal(second.pid, first.pid);
    await suite.sandbox.files.write('/tmp/end-of-joined', '');
    await assert.rejects(second.wait(), { exitCode: 3 });
    assert.equal(heard, 'done\n');
    assert.ok((await commands.list()).every(({ pid }) => pid !== first.pid));
  });

  test('killing a command ends it once', async () => {
    const { commands } = suite.sandbox;
    const handle = await commands.run('sleep 600', { background: true });
    const ended = assert.rejects(handle.wait(), (error) => {
      assert.ok(error instanceof CommandExitError);
      assert.equal(error.exitCode, -1);
      assert.match(error.error ?? '', /killed/);
      return true;
    });
    assert.equal(await handle.kill(), true);
    await ended;
    assert.equal(await commands.kill(handle.pid), false);
  });

  test('standard input arrives, binary-safe and in order, and can be closed', async () => {
    const { commands } = suite.sandbox;
    const handle = await commands.run('sha256sum', { background: true, stdin: true });
    const bytes = Uint8Array.from({ length: 200_000 }, (_, index) => (index * 7 + (index >> 8)) & 0xff);
    for (let offset = 0; offset < bytes.length; offset += 50_000)
      await commands.sendStdin(handle.pid, bytes.subarray(offset, offset + 50_000));
    await commands.closeStdin(handle.pid);
    const digest = Buffer.from(await crypto.subtle.digest('SHA-256', bytes)).toString('hex');
    assert.equal((await handle.wait()).stdout, `${digest}  -\n`);
  });

  test('the handle of a command takes input too, and tells what it has heard', async () => {
    const { commands } = suite.sandbox;
    assert.equal(commands.supportsStdinClose, true);
    const handle = await commands.run('cat; echo end >&2; exit 4', { background: true, stdin: true });
    assert.equal(handle.exitCode, undefined);
    await handle.sendStdin('ä line\n');
    await handle.sendStdin(Uint8Array.of(111, 107, 10));
    await handle.closeStdin();
    await assert.rejects(handle.wait(), CommandExitError);
    assert.deepEqual([handle.stdout, handle.stderr, handle.exitCode], ['ä line\nok\n', 'end\n', 4]);
  });

  test('a call can be given up, by a signal or a time-out, without harm to the next', async () => {
    const { commands } = suite.sandbox;
    const given = new AbortController();
    const running = assert.rejects(commands.run('sleep 600', { signal: given.signal }));
    setTimeout(() => given.abort(), 500);
    await running;
    await assert.rejects(commands.list({ requestTimeoutMs: 1 }), TimeoutError);
    assert.equal((await commands.run('echo next')).stdout, 'next\n');
  });

  test('without stdin a command reads nothing and ends', async () => {
    assert.equal((await suite.sandbox.commands.run('cat; echo over')).stdout, 'over\n');
  });

  test('environment variables come from the create and are overridden by the command', async () => {
    const { stdout } = await suite.sandbox.commands.run(
      'printf "%s|%s|%s|%s" "$FROM_CREATE" "$OVERRIDDEN" "$ODD" "$E2B_SANDBOX_ID"',
      { envs: { OVERRIDDEN: 'command', ODD: `it's "odd" $HOME\nüñí` } },
    );
    assert.equal(stdout, `create|command|it's "odd" $HOME\nüñí|${suite.sandbox.sandboxId}`);
  });

  test('the working directory is the home, or what is asked for', async () => {
    const { commands } = suite.sandbox;
    assert.equal((await commands.run('pwd')).stdout, '/home/user\n');
    assert.equal((await commands.run('pwd', { cwd: '/usr/share' })).stdout, '/usr/share\n');
    await assert.rejects(commands.run('pwd', { cwd: '/no/such/dir' }), (error) => {
      assert.ok(error instanceof InvalidArgumentError);
      assert.match(error.message, /\/no\/such\/dir/);
      return true;
    });
  });

  test('commands run as the default user, as root, and as nobody unknown', async () => {
    const { commands } = suite.sandbox;
    assert.equal((await commands.run('whoami; id -u; echo $HOME')).stdout, 'user\n1000\n/home/user\n');
    assert.equal((await commands.run('whoami; id -u; echo $HOME', { user: 'root' })).stdout, 'root\n0\n/root\n');
    assert.equal((await commands.run('sudo id -u')).stdout, '0\n');
    await assert.rejects(commands.run('true', { user: 'nobody-knows' }), /nobody-knows/);
  });

  test('a command that takes longer than its time-out is killed', async () => {
    const { commands } = suite.sandbox;
    await assert.rejects(commands.run('echo $$ > /tmp/slow.pid; exec sleep 600', { timeoutMs: 2000 }), TimeoutError);
    const pid = (await suite.sandbox.files.read('/tmp/slow.pid')).trim();
    // The kill follows the end of the connection; it is waited for inside.
    await commands.run(`for i in $(seq 100); do test -d /proc/${pid} || exit 0; sleep 0.1; done; exit 1`);
  });

  test('8 MiB of output arrive complete', async () => {
    const { stdout } = await suite.sandbox.commands.run(
      'head -c 6291456 /dev/urandom > /tmp/random; base64 -w 0 /tmp/random',
    );
    const { stdout: digest } = await suite.sandbox.commands.run('sha256sum < /tmp/random');
    const bytes = Buffer.from(stdout, 'base64');
    assert.equal(bytes.length, 6_291_456);
    const hash = Buffer.from(await crypto.subtle.digest('SHA-256', bytes)).toString('hex');
    assert.equal(digest, `${hash}  -\n`);
  });

  test('twenty commands at once each keep their own output', async () => {
    const results = await Promise.all(
      Array.from({ length: 20 }, (_, index) =>
        suite.sandbox.commands.run(`for i in 1 2 3 4 5; do echo "${index}:$i"; done; echo "e${index}" >&2`),
      ),
    );
    results.forEach(({ stdout, stderr }, index) => {
      assert.equal(stdout, [1, 2, 3, 4, 5].map((line) => `${index}:${line}\n`).join(''));
      assert.equal(stderr, `e${index}\n`);
    });
  });

  test('joining a process that never was is told', async () => {
    await assert.rejects(suite.sandbox.commands.connect(999_999), NotFoundError);
  });
});
