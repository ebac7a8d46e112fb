import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { Code } from '@connectrpc/connect';
import { as, rejectsWith, sh } from '../testing/process-calls.ts';
import { observe, startTestAgent } from '../testing/test-agent.ts';

const agent = await startTestAgent();
after(() => agent[Symbol.asyncDispose]());
const client = agent.client();

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
