import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { Code } from '@connectrpc/connect';
import { Signal, type StreamInputRequestSchema } from '@nestbox/contract/process';
import { byPid, byTag, rejectsWith, sh, step } from '../testing/process-calls.ts';
import { startTestAgent } from '../testing/test-agent.ts';

const agent = await startTestAgent();
after(() => agent[Symbol.asyncDispose]());
const client = agent.client();

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
