import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { Code } from '@connectrpc/connect';
import { Signal } from '@nestbox/contract/process';
import { byPid, byTag, rejectsWith, sh, step } from '../testing/process-calls.ts';
import { observe, startTestAgent } from '../testing/test-agent.ts';

const agent = await startTestAgent();
after(() => agent[Symbol.asyncDispose]());
const client = agent.client();

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
