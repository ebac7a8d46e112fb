import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { Code } from '@connectrpc/connect';
import { Signal } from '@nestbox/contract/process';
import { byPid, byTag, rejectsWith, sh, step } from '../testing/process-calls.ts';
import { observe, startTestAgent } from '../testing/test-agent.ts';

const agent = await startTestAgent();
after(() => agent[Symbol.asyncDispose]());
const client = agent.client();

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
