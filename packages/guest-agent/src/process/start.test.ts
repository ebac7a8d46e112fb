import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { Code } from '@connectrpc/connect';
import { byPid, rejectsWith, sh } from '../testing/process-calls.ts';
import { type Encoding, observe, startTestAgent } from '../testing/test-agent.ts';

const agent = await startTestAgent();
after(() => agent[Symbol.asyncDispose]());
const client = agent.client();
const folder = await mkdtemp(join(tmpdir(), 'nestbox-start-'));
after(() => rm(folder, { recursive: true, force: true }));

describe('Start', () => {
  for (const encoding of ['json', 'binary', 'grpc-web'] as const satisfies Encoding[]) {
    test(`tells start, output and end in this order (${encoding})`, async () => {
      const seen = await observe(agent.client(encoding).start(sh('echo out; echo err >&2; exit 3')));
      assert.ok(seen.pid > 1);
      assert.deepEqual([seen.stdout.toString(), seen.stderr.toString()], ['out\n', 'err\n']);
      assert.deepEqual([seen.order[0], seen.order.at(-1)], ['start', 'end']);
      assert.deepEqual(seen.end, { exitCode: 3, exited: true, status: 'exit status 3', error: 'exit status 3' });
    });
  }

  test('a successful command has no error', async () => {
    const { end } = await observe(client.start(sh('true')));
    assert.deepEqual(end, { exitCode: 0, exited: true, status: 'exit status 0', error: undefined });
  });

  test('arguments reach the program unchanged', async () => {
    const args = ['', 'two words', '"$HOME"', '*', 'zwei\nZeilen', 'grün 🌱', '-n', 'x'.repeat(100_000)];
    const { stdout } = await observe(client.start(sh('printf "%s\\0" "$@"', ...args)));
    assert.deepEqual(stdout.toString().split('\0').slice(0, -1), args);
  });

  test('the environment is the user’s, then the sandbox’s, then the request’s', async () => {
    agent.context.state.replaceUserEnv({ GLOBAL: 'global', BOTH: 'global', HOME: '/elsewhere' });
    const request = sh('echo "$PATH|$HOME|$USER|$LOGNAME|$GLOBAL|$BOTH|$E2B_SANDBOX|$OWN"');
    const { stdout } = await observe(
      client.start({ ...request, process: { ...request.process, envs: { BOTH: 'request', OWN: 'a=b\nc' } } }),
    );
    agent.context.state.replaceUserEnv({});
    assert.equal(stdout.toString(), `${process.env.PATH}|/elsewhere|root|root|global|request|true|a=b\nc\n`);
  });

  test('the working directory is the one asked for, else the default one, else the home', async () => {
    const pwd = async (cwd?: string) => {
      const request = sh('pwd');
      return (
        await observe(client.start({ ...request, process: { ...request.process, ...(cwd !== undefined && { cwd }) } }))
      ).stdout.toString();
    };
    assert.equal(await pwd(folder), `${folder}\n`);
    assert.equal(await pwd(), '/root\n');
    assert.equal(await pwd('~'), '/root\n');
    agent.context.state.defaultWorkdir = folder;
    assert.equal(await pwd(), `${folder}\n`);
    agent.context.state.defaultWorkdir = undefined;
    await rejectsWith(pwd('/no/such/place'), Code.InvalidArgument, /^cwd '\/no\/such\/place' does not exist$/);
    await rejectsWith(pwd('/etc/passwd'), Code.InvalidArgument, /does not exist/);
    await rejectsWith(pwd('~bob'), Code.InvalidArgument, /cannot expand user-specific home dir/);
  });

  test('a missing program is a process that ends with 127, one that may not be run with 126', async () => {
    for (const [cmd, exitCode, stderr] of [
      ['no-such-program', 127, 'exec: no-such-program: not found\n'],
      ['/no/such/program', 127, 'exec: /no/such/program: not found\n'],
      ['/etc/passwd', 126, 'exec: /etc/passwd: Permission denied\n'],
      ['/etc', 126, 'exec: /etc: Permission denied\n'],
      ['', 127, 'exec: : not found\n'],
    ] as const) {
      const seen = await observe(client.start({ process: { cmd } }));
      assert.deepEqual(seen.order, ['start', 'data', 'end'], cmd);
      assert.equal(seen.stderr.toString(), stderr);
      assert.deepEqual(seen.end, {
        exitCode,
        exited: true,
        status: `exit status ${exitCode}`,
        error: `exit status ${exitCode}`,
      });
      const again = await observe(client.connect({ process: byPid(seen.pid) }));
      assert.equal(again.end?.exitCode, exitCode);
    }
  });

  test('a program is looked up in the PATH of the request', async () => {
    const found = await observe(client.start({ process: { cmd: 'true', envs: { PATH: '/nowhere:/bin' } } }));
    assert.equal(found.end?.exitCode, 0);
    const lost = await observe(client.start({ process: { cmd: 'true', envs: { PATH: '/nowhere' } } }));
    assert.equal(lost.end?.exitCode, 127);
  });

  test('what no process can have is refused', async () => {
    const start = (process: { cmd: string; args?: string[]; envs?: Record<string, string> }) =>
      observe(client.start({ process }));
    await rejectsWith(start({ cmd: 'a\0b' }), Code.InvalidArgument, /NUL/);
    await rejectsWith(start({ cmd: '/bin/echo', args: ['a\0b'] }), Code.InvalidArgument, /NUL/);
    await rejectsWith(start({ cmd: '/bin/true', envs: { 'A=B': 'c' } }), Code.InvalidArgument, /"A=B"/);
    await rejectsWith(start({ cmd: '/bin/true', envs: { A: 'c\0' } }), Code.InvalidArgument, /"A"/);
    const tooLong = Array.from({ length: 60 }, () => 'x'.repeat(100_000));
    await rejectsWith(start({ cmd: '/bin/true', args: tooLong }), Code.InvalidArgument, /E2BIG/);
  });

  test('10 MB of binary output pass unchanged', async () => {
    const script = 'i=0; while [ $i -lt 10 ]; do head -c 1000000 /dev/urandom; i=$((i+1)); done | tee "$1"';
    const file = join(folder, 'random');
    for (const encoding of ['json', 'binary'] as const) {
      const { stdout } = await observe(agent.client(encoding).start(sh(script, file)));
      assert.equal(stdout.length, 10_000_000);
      assert.ok(stdout.equals(await readFile(file)));
    }
  });

  test('no chunk of output is larger than envd’s', async () => {
    for await (const { event } of client.start(sh('head -c 1000000 /dev/zero'))) {
      if (event?.event.case === 'data') assert.ok((event.event.value.output.value?.length ?? 0) <= 32_768);
    }
  });

  test('standard output and error can be opened again by their names', async () => {
    const seen = await observe(
      client.start(sh('echo a > /dev/stdout; echo b > /dev/stderr; echo c >> /proc/self/fd/1')),
    );
    assert.deepEqual([seen.stdout.toString(), seen.stderr.toString(), seen.end?.exitCode], ['a\nc\n', 'b\n', 0]);
  });

  test('a process has its three descriptors and no others, default signals and a group of its own', async () => {
    const script =
      'ls /proc/self/fd | tr "\\n" " "; grep SigIgn /proc/self/status; cut -d" " -f5 /proc/$$/stat; echo $$; ulimit -n';
    const { stdout } = await observe(client.start(sh(script)));
    const [ignored, group, pid, files] = stdout
      .toString()
      .replace(/^0 1 2 3 /, '')
      .split('\n');
    assert.match(stdout.toString(), /^0 1 2 3 Sig/, 'the fourth is the folder that ls reads');
    assert.match(ignored ?? '', /^SigIgn:\t0+$/);
    assert.equal(group, pid);
    assert.ok(Number(files) <= 1024);
  });

  test('a descendant that keeps the output open does not keep the command from ending', async () => {
    const seen = await observe(client.start(sh('echo before; sleep 1000 & echo $!')));
    assert.equal(seen.end?.exitCode, 0);
    const [before, pid] = seen.stdout.toString().split('\n');
    assert.equal(before, 'before');
    process.kill(Number(pid), 'SIGKILL');
  });

  test('what a descendant writes shortly after the end still arrives', async () => {
    const { stdout } = await observe(client.start(sh('(sleep 0.05; echo late) & echo early')));
    assert.equal(stdout.toString(), 'early\nlate\n');
  });

  test('a descendant can go on writing after the command has ended', async () => {
    const marker = join(folder, 'survived');
    await observe(client.start(sh('(sleep 0.6; echo into the void && echo yes > "$1") & exit 0', marker)));
    for (;;) {
      const text = await readFile(marker, 'utf8').catch(() => '');
      if (text === 'yes\n') break;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  });

  test('64 commands at once lose nothing', async () => {
    const all = await Promise.all(
      Array.from({ length: 64 }, (_, index) => observe(client.start(sh('echo "$1"; exit "$1"', String(index))))),
    );
    assert.deepEqual(
      all.map(({ stdout, end }) => [stdout.toString(), end?.exitCode]),
      all.map((_, index) => [`${index}\n`, index]),
    );
  });

  test('500 commands and terminals leave no descriptor behind', async () => {
    const open = () => readdirSync('/proc/self/fd').length;
    await observe(client.start(sh('true')));
    const before = open();
    for (let batch = 0; batch < 25; batch += 1) {
      await Promise.all(
        Array.from({ length: 20 }, (_, index) =>
          observe(
            client.start(
              index % 5 === 0
                ? { process: { cmd: '/bin/true' }, pty: { size: { cols: 10, rows: 10 } } }
                : index % 5 === 1
                  ? { process: { cmd: 'no-such-program' } }
                  : { ...sh('true'), stdin: index % 2 === 0 },
            ),
          ),
        ),
      );
    }
    // Connections that the client keeps are two descriptors each; they close only when idle for long.
    assert.ok(open() - before <= 2 * 20 + 5, `${before} descriptors before, ${open()} after`);
  });
});
