import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { PassThrough, Readable } from 'node:stream';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type NativeAgent, startNativeAgent } from '../../../../test/support/native-agent.ts';
import { type CommandSpec, type RunningCommand, runCommand } from './command-session.ts';
import { connectToGuest, type ProcessClient } from './guest-agent.ts';

describe('a command session, against the guest agent as a process of this machine', () => {
  let agent: NativeAgent | undefined;
  let client: ProcessClient | undefined;
  before(async () => {
    agent = await startNativeAgent();
    client = connect();
  });
  after(() => agent?.stop());

  function connect(user?: string): ProcessClient {
    const endpoints = { apiUrl: '', apiKey: '', sandboxUrl: agent?.url };
    return connectToGuest(endpoints, { sandboxId: 'i1', accessToken: undefined, domain: undefined }, user);
  }

  interface Extra {
    readonly spec?: Partial<CommandSpec>;
    readonly input?: Readable;
    readonly signal?: AbortSignal;
    readonly onStart?: (command: RunningCommand) => void;
    readonly onOutput?: (soFar: string) => unknown;
    readonly client?: ProcessClient;
  }

  async function run(file: string, args: readonly string[], extra: Extra = {}) {
    const output: Uint8Array[] = [];
    const errors: Uint8Array[] = [];
    const using = extra.client ?? client;
    assert.ok(using);
    const status = await runCommand(
      using,
      { file, args, envVars: {}, cwd: '/tmp', timeoutMs: undefined, ...extra.spec },
      {
        input: extra.input,
        writeOutput: async (bytes) => {
          output.push(bytes);
          await extra.onOutput?.(Buffer.concat(output).toString('utf8'));
        },
        writeError: async (bytes) => {
          errors.push(bytes);
        },
      },
      extra.signal ?? new AbortController().signal,
      extra.onStart,
    );
    return { ...status, output: Buffer.concat(output), errors: Buffer.concat(errors).toString('utf8') };
  }

  test('output, errors and the exit code come back', async () => {
    const result = await run('sh', ['-c', 'echo out; echo err >&2; exit 9']);
    assert.deepEqual([String(result.output), result.errors, result.exitCode], ['out\n', 'err\n', 9]);
  });

  test('megabytes of any bytes pass through in both directions, unchanged', async () => {
    const bytes = randomBytes(3_000_000);
    const pieces = [bytes.subarray(0, 5), bytes.subarray(5, 1_000_000), bytes.subarray(1_000_000)];
    const result = await run('cat', [], { input: Readable.from(pieces) });
    assert.equal(result.exitCode, 0);
    assert.ok(result.output.equals(bytes));
  });

  test('a slow reader slows the command and loses nothing', async () => {
    let pieces = 0;
    const result = await run('head', ['-c', '2000000', '/dev/zero'], {
      onOutput: async () => {
        pieces++;
        await sleep(2);
      },
    });
    assert.equal(result.output.length, 2_000_000);
    assert.ok(pieces > 10);
  });

  test('a command that reads nothing, or not all, ends as it wants to', async () => {
    // This input has no end of its own.
    const endless = new PassThrough();
    endless.write('never read');
    assert.equal((await run('true', [], { input: endless })).exitCode, 0);
    assert.equal(endless.destroyed, true);
    const result = await run('head', ['-c', '3'], {
      input: Readable.from([Buffer.from('abc'), Buffer.alloc(500_000)]),
    });
    assert.deepEqual([String(result.output), result.exitCode], ['abc', 0]);
  });

  test('environment, working directory and a signal that ends the command', async () => {
    const result = await run('sh', ['-c', 'echo "$ODD"; pwd; kill -TERM $$'], {
      spec: { envVars: { ODD: `a b'"$` }, cwd: '/usr' },
    });
    assert.deepEqual([String(result.output), result.exitCode, result.signal], [`a b'"$\n/usr\n`, 143, 'SIGTERM']);
  });

  test('what cannot be run, cannot be entered and who is not known is told', async () => {
    assert.equal((await run('no-such-command', [])).exitCode, 127);
    await assert.rejects(run('true', [], { spec: { cwd: '/no/such' } }), {
      code: 'invalid_request',
      message: /\/no\/such/,
    });
    await assert.rejects(run('true', [], { client: connect('nobody-knows') }), {
      code: 'unauthorized',
      message: /nobody-knows/,
    });
  });

  test('a command whose time is over is killed, and that is told', async () => {
    await assert.rejects(run('sleep', ['600'], { spec: { timeoutMs: 300 } }), { code: 'deadline_exceeded' });
  });

  test('an abort ends the session with its reason, and terminate() the command', async () => {
    const stop = new AbortController();
    const reason = new Error('enough');
    const running = run('sh', ['-c', 'echo begun; exec sleep 600'], {
      signal: stop.signal,
      onOutput: () => stop.abort(reason),
    });
    await assert.rejects(running, reason);

    let command: RunningCommand | undefined;
    const ended = await run('sh', ['-c', 'echo begun; exec sleep 600'], {
      onStart: (started) => {
        command = started;
      },
      onOutput: () => void command?.terminate(),
    });
    assert.equal(ended.exitCode, 143);
  });

  test('a terminal has the size it was given, follows a resize, and ends with its input', async () => {
    const keys = new PassThrough();
    let command: RunningCommand | undefined;
    let step = 0;
    const result = await run('/bin/bash', ['--norc', '-i'], {
      spec: { terminal: { cols: 100, rows: 30 }, envVars: { PS1: '$ ', TERM: 'dumb' } },
      input: keys,
      onStart: (started) => {
        command = started;
        keys.write('stty size; echo one-$((1 + 1))\n');
      },
      onOutput: (shown) => {
        if (step === 0 && shown.includes('one-2')) {
          step = 1;
          void command?.resize({ cols: 120, rows: 40 }).then(() => keys.end('stty size\n'));
        }
      },
    });
    assert.match(String(result.output), /\r\n30 100\r\none-2\r\n.*\r\n40 120\r\n/s);
    assert.equal(result.exitCode, 0);
  });

  test('a guest agent that is not there is told', async () => {
    const nobody = connectToGuest(
      { apiUrl: '', apiKey: '', sandboxUrl: 'http://127.0.0.1:1' },
      { sandboxId: 'i1', accessToken: undefined, domain: undefined },
    );
    await assert.rejects(run('true', [], { client: nobody }), { code: 'sandbox_unreachable' });
  });
});
