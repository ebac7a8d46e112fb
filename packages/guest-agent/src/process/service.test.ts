import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import { type ProcessEvent, Signal, type StreamInputRequestSchema } from '@nestbox/contract/process';
import { type Encoding, observe, startTestAgent } from '../testing/test-agent.ts';

const agent = await startTestAgent();
after(() => agent[Symbol.asyncDispose]());
const client = agent.client();
const folder = await mkdtemp(join(tmpdir(), 'nestbox-service-'));
after(() => rm(folder, { recursive: true, force: true }));

const sh = (script: string, ...args: string[]) => ({
  process: { cmd: '/bin/sh', args: ['-c', script, 'sh', ...args], envs: {} },
  stdin: false,
});
const as = (user: string) => ({ headers: { Authorization: `Basic ${Buffer.from(`${user}:`).toString('base64')}` } });
const byPid = (pid: number) => ({ selector: { case: 'pid', value: pid } }) as const;
const byTag = (tag: string) => ({ selector: { case: 'tag', value: tag } }) as const;

/** A stream that is read event by event. */
function step(stream: AsyncIterable<{ event?: ProcessEvent | undefined }>) {
  const events = stream[Symbol.asyncIterator]();
  const next = async () => {
    const { value, done } = await events.next();
    return done ? undefined : value.event?.event;
  };
  return {
    next,
    /** The pid of the start event. */
    start: async () => {
      const event = await next();
      assert.equal(event?.case, 'start');
      return event?.case === 'start' ? event.value.pid : 0;
    },
    /** Reads output until it contains `text`. */
    until: async (text: string) => {
      let seen = '';
      while (!seen.includes(text)) {
        const event = await next();
        assert.ok(event !== undefined && event.case !== 'end', `the stream ended before it showed ${text}: ${seen}`);
        if (event.case === 'data') seen += Buffer.from(event.value.output.value ?? []).toString();
      }
      return seen;
    },
    rest: () => observe({ [Symbol.asyncIterator]: () => events }),
  };
}

async function rejectsWith(call: Promise<unknown>, code: Code, message: RegExp): Promise<void> {
  await assert.rejects(call, (error) => {
    assert.ok(error instanceof ConnectError);
    assert.equal(Code[error.code], Code[code], error.message);
    assert.match(error.rawMessage, message);
    return true;
  });
}

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

describe('users', { skip: process.getuid?.() !== 0 && 'needs root' }, () => {
  test('a command has the ids and nothing of the rights of the agent', async () => {
    const { stdout } = await observe(
      client.start(
        {
          ...sh('grep -E "^(Uid|Gid|CapEff|CapPrm)" /proc/self/status; pwd; echo $HOME $USER'),
          process: {
            ...sh('').process,
            cwd: '/',
            args: ['-c', 'grep -E "^(Uid|Gid|CapEff|CapPrm)" /proc/self/status; echo $USER'],
          },
        },
        as('nobody'),
      ),
    );
    assert.equal(
      stdout.toString().replaceAll('\t', ' '),
      [
        'Uid: 65534 65534 65534 65534',
        'Gid: 65534 65534 65534 65534',
        `CapPrm: ${'0'.repeat(16)}`,
        `CapEff: ${'0'.repeat(16)}`,
        'nobody',
        '',
      ].join('\n'),
    );
  });

  test('an unprivileged command can open its own output again, also on a terminal', async () => {
    const request = {
      process: { cmd: '/bin/sh', args: ['-c', 'echo a > /dev/stderr; echo b > /dev/stdout'], cwd: '/' },
    };
    const pipes = await observe(client.start({ ...request, stdin: false }, as('nobody')));
    assert.deepEqual([pipes.stdout.toString(), pipes.stderr.toString()], ['b\n', 'a\n']);
    const terminal = await observe(client.start({ ...request, pty: {} }, as('nobody')));
    assert.equal(terminal.pty.toString(), 'a\r\nb\r\n');
  });

  test('what the user may not run or enter is refused as the user, not as root', async (t) => {
    const secret = await mkdtemp(join(tmpdir(), 'nestbox-secret-'));
    t.after(() => rm(secret, { recursive: true, force: true }));
    const run = (cmd: string, cwd: string) => observe(client.start({ process: { cmd, cwd } }, as('nobody')));
    assert.equal((await run(join(secret, 'tool'), '/')).end?.exitCode, 126);
    await rejectsWith(run('/bin/true', secret), Code.InvalidArgument, /EACCES|permission/i);
  });

  test('the threads of the agent keep their rights', async () => {
    await observe(client.start({ process: { cmd: '/bin/true', cwd: '/' } }, as('nobody')));
    const threads = readdirSync('/proc/self/task');
    for (const thread of threads) {
      const status = await readFile(`/proc/self/task/${thread}/status`, 'utf8').catch(() => '');
      if (status !== '') assert.match(status, /^Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0$/m);
    }
  });

  test('an unknown user is refused by every method', async () => {
    const message = /^invalid username: 'nobody-at-all'$/;
    await rejectsWith(observe(client.start(sh('true'), as('nobody-at-all'))), Code.Unauthenticated, message);
    await rejectsWith(client.list({}, as('nobody-at-all')), Code.Unauthenticated, message);
    agent.context.state.defaultUser = 'nobody-at-all';
    await rejectsWith(observe(client.start(sh('true'))), Code.Unauthenticated, /does not exist/);
    agent.context.state.defaultUser = 'root';
  });
});

describe('input', () => {
  test('standard input passes unchanged and in order, and its end is told', async () => {
    const stream = step(client.start({ process: { cmd: '/bin/cat' } }));
    const pid = await stream.start();
    const input = Buffer.alloc(300_000, 0).map((_, index) => (index * 7) % 256);
    const sent = (async () => {
      for (let at = 0; at < input.length; at += 100_000) {
        await client.sendInput({
          process: byPid(pid),
          input: { input: { case: 'stdin', value: input.subarray(at, at + 100_000) } },
        });
      }
      await client.closeStdin({ process: byPid(pid) });
    })();
    const seen = await stream.rest();
    await sent;
    assert.ok(seen.stdout.equals(input));
    assert.equal(seen.end?.exitCode, 0);
  });

  test('closing standard input twice is harmless', async () => {
    const stream = step(client.start({ process: { cmd: '/bin/sh', args: ['-c', 'cat; echo end; sleep 1000'] } }));
    const process = byPid(await stream.start());
    await client.closeStdin({ process });
    await stream.until('end');
    await client.closeStdin({ process });
    await client.sendSignal({ process, signal: Signal.SIGKILL });
    await stream.rest();
  });

  test('input can be streamed after a start message, keep-alives between', async () => {
    const stream = step(
      client.start({ process: { cmd: '/bin/sh', args: ['-c', 'read a; read b; echo "$a-$b"'] }, tag: 'streamed' }),
    );
    await stream.start();
    await client.streamInput(
      (async function* (): AsyncGenerator<MessageInitShape<typeof StreamInputRequestSchema>> {
        yield { event: { case: 'start' as const, value: { process: byTag('streamed') } } };
        yield data('one\n');
        yield { event: { case: 'keepalive' as const, value: {} } };
        yield data('two\n');
      })(),
    );
    assert.equal((await stream.rest()).stdout.toString(), 'one-two\n');
    function data(text: string) {
      return {
        event: {
          case: 'data' as const,
          value: { input: { input: { case: 'stdin' as const, value: Buffer.from(text) } } },
        },
      };
    }
  });

  test('input that cannot be taken is an error that says why', async () => {
    const stream = step(client.start(sh('sleep 1000')));
    const process = byPid(await stream.start());
    const stdin = { input: { case: 'stdin', value: Buffer.from('x') } } as const;
    const pty = { input: { case: 'pty', value: Buffer.from('x') } } as const;
    await rejectsWith(
      client.sendInput({ process, input: stdin }),
      Code.Internal,
      /error writing to stdin: .*without stdin/,
    );
    await rejectsWith(client.sendInput({ process, input: pty }), Code.Internal, /error writing to tty: .*no tty/);
    await rejectsWith(client.sendInput({ process }), Code.Unimplemented, /no input/);
    await client.sendSignal({ process, signal: Signal.SIGKILL });
    await stream.rest();

    const closed = step(
      client.start({ process: { cmd: '/bin/sh', args: ['-c', 'exec <&-; echo closed; sleep 1000'] } }),
    );
    const other = byPid(await closed.start());
    await closed.until('closed');
    await rejectsWith(
      client.sendInput({ process: other, input: stdin }),
      Code.Internal,
      /error writing to stdin: .*EPIPE/,
    );
    await client.closeStdin({ process: other });
    await rejectsWith(client.sendInput({ process: other, input: stdin }), Code.Internal, /error writing to stdin/);
    await client.sendSignal({ process: other, signal: Signal.SIGKILL });
    await closed.rest();
  });
});

describe('Connect and List', () => {
  test('a running process is listed as it was asked for, and no longer when it has ended', async () => {
    const stream = step(
      client.start({ process: { cmd: '/bin/sh', args: ['-c', 'read x'], envs: { A: 'b' }, cwd: '/' }, tag: 'listed' }),
    );
    const pid = await stream.start();
    const listed = (await client.list({})).processes.find((process) => process.pid === pid);
    assert.deepEqual(
      [listed?.tag, listed?.config?.cmd, listed?.config?.args, listed?.config?.envs, listed?.config?.cwd],
      ['listed', '/bin/sh', ['-c', 'read x'], { A: 'b' }, '/'],
    );
    await client.closeStdin({ process: byTag('listed') });
    await stream.rest();
    assert.equal(
      (await client.list({})).processes.some((process) => process.pid === pid),
      false,
    );
  });

  test('everyone who is attached sees what comes from then on, and the end', async () => {
    const first = step(
      client.start({ process: { cmd: '/bin/sh', args: ['-c', 'echo one; read x; echo two'] }, tag: 'shared' }),
    );
    const pid = await first.start();
    await first.until('one');
    const second = step(client.connect({ process: byTag('shared') }));
    assert.equal(await second.start(), pid);
    await client.sendInput({ process: byPid(pid), input: { input: { case: 'stdin', value: Buffer.from('\n') } } });
    for (const seen of await Promise.all([first.rest(), second.rest()])) {
      assert.equal(seen.stdout.toString(), 'two\n');
      assert.equal(seen.end?.exitCode, 0);
    }
  });

  test('the end can be asked for after it has happened', async () => {
    const { pid } = await observe(client.start({ ...sh('exit 9'), tag: 'over' }));
    for (const selector of [byPid(pid), byTag('over')]) {
      const again = await observe(client.connect({ process: selector }));
      assert.deepEqual([again.pid, again.end?.exitCode, again.order], [pid, 9, ['start', 'end']]);
    }
  });

  test('a new process takes the tag of one that has ended', async () => {
    await observe(client.start({ ...sh('exit 1'), tag: 'reused' }));
    const stream = step(client.start({ process: { cmd: '/bin/cat' }, tag: 'reused' }));
    const pid = await stream.start();
    const again = step(client.connect({ process: byTag('reused') }));
    assert.equal(await again.start(), pid);
    await client.closeStdin({ process: byPid(pid) });
    assert.equal((await again.rest()).end?.exitCode, 0);
    await stream.rest();
  });

  test('unknown processes are not found, whatever is asked of them', async () => {
    const process = byPid(4_000_000);
    const pidText = /^process with pid 4000000 not found$/;
    await rejectsWith(observe(client.connect({ process })), Code.NotFound, pidText);
    await rejectsWith(client.sendSignal({ process, signal: Signal.SIGKILL }), Code.NotFound, pidText);
    await rejectsWith(client.closeStdin({ process }), Code.NotFound, pidText);
    await rejectsWith(client.update({ process }), Code.NotFound, pidText);
    await rejectsWith(client.sendInput({ process }), Code.NotFound, pidText);
    await rejectsWith(
      observe(client.connect({ process: byTag('none') })),
      Code.NotFound,
      /^process with tag none not found$/,
    );
    await rejectsWith(observe(client.connect({})), Code.Unimplemented, /by pid or by tag/);
    await rejectsWith(client.sendSignal({}), Code.Unimplemented, /by pid or by tag/);
  });
});

describe('signals and deadlines', () => {
  test('SIGTERM can be handled, and what the handler says arrives; SIGKILL cannot', async () => {
    const polite = step(client.start(sh('trap "echo bye; exit 4" TERM; echo ready; while :; do sleep 0.01; done')));
    const pid = await polite.start();
    await polite.until('ready');
    await client.sendSignal({ process: byPid(pid), signal: Signal.SIGTERM });
    const said = await polite.rest();
    assert.deepEqual([said.stdout.toString(), said.end?.exitCode], ['bye\n', 4]);

    const killed = step(client.start(sh('sleep 1000')));
    await client.sendSignal({ process: byPid(await killed.start()), signal: Signal.SIGKILL });
    assert.deepEqual((await killed.rest()).end, {
      exitCode: -1,
      exited: false,
      status: 'signal: killed',
      error: 'signal: killed',
    });
  });

  test('other signals are not supported', async () => {
    const stream = step(client.start({ process: { cmd: '/bin/cat' } }));
    const process = byPid(await stream.start());
    await rejectsWith(client.sendSignal({ process, signal: Signal.UNSPECIFIED }), Code.Unimplemented, /signal 0/);
    await client.closeStdin({ process });
    await stream.rest();
  });

  test('a deadline kills the process and ends the stream with deadline_exceeded', async () => {
    const call = client.start({ ...sh('sleep 1000'), tag: 'timed' }, { headers: { 'Connect-Timeout-Ms': '150' } });
    await rejectsWith(observe(call), Code.DeadlineExceeded, /./);
    const { end } = await observe(client.connect({ process: byTag('timed') }));
    assert.equal(end?.status, 'signal: killed');
  });

  test('the deadline is the process’s: it holds after the client has gone', async () => {
    const gone = new AbortController();
    const stream = step(
      client.start(
        { ...sh('sleep 1000'), tag: 'orphan' },
        { headers: { 'Connect-Timeout-Ms': '300' }, signal: gone.signal },
      ),
    );
    await stream.start();
    gone.abort();
    await assert.rejects(stream.rest());
    const { end } = await observe(client.connect({ process: byTag('orphan') }));
    assert.equal(end?.status, 'signal: killed');
  });

  test('a deadline of months is no deadline', async () => {
    const stream = client.start(sh('sleep 0.05; echo done'), { headers: { 'Connect-Timeout-Ms': '9999999999' } });
    assert.equal((await observe(stream)).stdout.toString(), 'done\n');
  });

  test('a client that disappears leaves its process running', async () => {
    const gone = new AbortController();
    const stream = step(
      client.start({ process: { cmd: '/bin/sh', args: ['-c', 'read x; echo still here'] } }, { signal: gone.signal }),
    );
    const pid = await stream.start();
    gone.abort();
    await assert.rejects(stream.rest());
    const again = step(client.connect({ process: byPid(pid) }));
    await again.start();
    await client.sendInput({ process: byPid(pid), input: { input: { case: 'stdin', value: Buffer.from('\n') } } });
    assert.equal((await again.rest()).stdout.toString(), 'still here\n');
  });

  test('a silent stream is kept alive at the interval that was asked for', async () => {
    const stream = client.start(sh('sleep 1.5'), { headers: { 'Keepalive-Ping-Interval': '1' } });
    const seen = await observe(stream);
    assert.equal(seen.keepAlives, 1);
    assert.deepEqual(seen.order, ['start', 'keepalive', 'end']);
  });
});

describe('terminals', () => {
  const shell = { process: { cmd: '/bin/sh', args: ['-c', 'stty size; read x; stty size; tty'], envs: {} } };

  test('a process on a terminal has its size, is resized, and ends', async () => {
    const stream = step(client.start({ ...shell, pty: { size: { cols: 77, rows: 11 } } }));
    const process = byPid(await stream.start());
    await stream.until('11 77');
    await client.update({ process, pty: { size: { cols: 120, rows: 40 } } });
    await client.update({ process });
    await client.sendInput({ process, input: { input: { case: 'pty', value: Buffer.from('\n') } } });
    const seen = await stream.rest();
    assert.match(seen.pty.toString(), /40 120\r\n\/dev\/pts\/\d+\r\n$/);
    assert.deepEqual([seen.end?.exitCode, seen.stdout.length], [0, 0]);
  });

  test('input to a terminal is never dropped and keeps its order while nobody reads it', async () => {
    const lines = Array.from({ length: 20_000 }, (_, index) => `line ${index}\n`).join('');
    const script = 'stty raw -echo; echo ready; sleep 0.3; exec head -c "$1"';
    const stream = step(
      client.start({
        process: { cmd: '/bin/sh', args: ['-c', script, 'sh', String(lines.length)] },
        pty: { size: { cols: 80, rows: 24 } },
      }),
    );
    const process = byPid(await stream.start());
    await stream.until('ready');
    const sent = (async () => {
      for (let at = 0; at < lines.length; at += 10_000) {
        const value = Buffer.from(lines.slice(at, at + 10_000));
        await client.sendInput({ process, input: { input: { case: 'pty', value } } });
      }
    })();
    const seen = await stream.rest();
    await sent;
    assert.equal(seen.pty.toString().replace(/^\r?\n/, ''), lines);
  });

  test('output of a terminal is binary-safe and whole', async () => {
    const script = 'stty raw; i=0; while [ $i -lt 20 ]; do head -c 50000 /dev/urandom; i=$((i+1)); done | tee "$1"';
    const file = join(folder, 'terminal');
    const seen = await observe(
      client.start({
        process: { cmd: '/bin/sh', args: ['-c', script, 'sh', file] },
        pty: { size: { cols: 80, rows: 24 } },
      }),
    );
    assert.ok(seen.pty.equals(await readFile(file)));
  });

  test('a terminal has no standard input to write to or to close', async () => {
    const stream = step(client.start({ process: { cmd: '/bin/cat' }, pty: {} }));
    const process = byPid(await stream.start());
    await rejectsWith(client.closeStdin({ process }), Code.Unknown, /^cannot close stdin for PTY process$/);
    const stdin = { input: { case: 'stdin', value: Buffer.from('x') } } as const;
    await rejectsWith(client.sendInput({ process, input: stdin }), Code.Internal, /error writing to stdin/);
    await client.sendInput({ process, input: { input: { case: 'pty', value: Buffer.from('\x04') } } });
    assert.equal((await stream.rest()).end?.exitCode, 0);
  });

  test('a process without a terminal cannot be resized', async () => {
    const stream = step(client.start({ process: { cmd: '/bin/cat' } }));
    const process = byPid(await stream.start());
    await rejectsWith(
      client.update({ process, pty: { size: { cols: 1, rows: 1 } } }),
      Code.Internal,
      /error resizing tty: the process has no terminal/,
    );
    await client.closeStdin({ process });
    await stream.rest();
  });

  test('a shell that leaves a job behind ends all the same', async () => {
    const stream = client.start({
      process: { cmd: '/bin/sh', args: ['-c', 'trap "" HUP; sleep 1000 & echo "pid $!."'] },
      pty: {},
    });
    const seen = await observe(stream);
    assert.equal(seen.end?.exitCode, 0);
    process.kill(Number(/pid (\d+)\./.exec(seen.pty.toString())?.[1]), 'SIGKILL');
  });
});
