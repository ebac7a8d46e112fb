import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, readlink, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { Code } from '@connectrpc/connect';
import { byPid, rejectsWith, step } from '../testing/process-calls.ts';
import { observe, startTestAgent } from '../testing/test-agent.ts';

const agent = await startTestAgent();
after(() => agent[Symbol.asyncDispose]());
const client = agent.client();
const folder = await mkdtemp(join(tmpdir(), 'nestbox-terminals-'));
after(() => rm(folder, { recursive: true, force: true }));

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

  test('a program that lets go of its terminal is not hung up on', async () => {
    const script = 'echo said; exec <&- >&- 2>&-; sleep 0.3; echo again > /dev/tty; exit 7';
    const seen = await observe(client.start({ process: { cmd: '/bin/sh', args: ['-c', script] }, pty: {} }));
    assert.deepEqual([seen.pty.toString(), seen.end?.status], ['said\r\nagain\r\n', 'exit status 7']);
  });

  test('nothing of a terminal stays open when its program has ended', async () => {
    const openTerminals = async () => {
      const links = (await readdir('/proc/self/fd')).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => ''));
      return (await Promise.all(links)).filter((path) => /\/(?:ptmx|pts\/\d+)$/.test(path)).length;
    };
    const before = await openTerminals();
    const stream = step(client.start({ process: { cmd: '/bin/cat' }, pty: {} }));
    const process = byPid(await stream.start());
    assert.equal(await openTerminals(), before + 2);
    await client.sendInput({ process, input: { input: { case: 'pty', value: Buffer.from('\x04') } } });
    await stream.rest();
    await observe(client.start({ process: { cmd: 'not-there' }, pty: {} }));
    assert.equal(await openTerminals(), before);
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
