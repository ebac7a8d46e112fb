import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { Agent } from 'node:http';
import { createServer, type Socket } from 'node:net';
import { Readable, Writable } from 'node:stream';
import { describe, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { HttpAnswer, HttpExchange } from './http-exchange.ts';
import { passExchange } from './pass-exchange.ts';
import { connectTapped } from './socket-tap.ts';

const LENGTH = 3 * 1024 * 1024;

/** A client that takes what it gets only a while later, as one behind a full line does, and may go away in the middle. */
class SlowAnswer extends Writable implements HttpAnswer {
  readonly stream = this;
  readonly finished = false;
  readonly #pieces: Buffer[] = [];
  readonly #leavesAfter: number;
  begun = false;
  aborted = false;
  #length = 0;

  constructor(leavesAfter = Number.POSITIVE_INFINITY) {
    super({ highWaterMark: 256 * 1024 });
    this.#leavesAfter = leavesAfter;
  }

  override _write(bytes: Buffer, _encoding: string, done: (error?: Error) => void): void {
    setTimeout(() => {
      this.#pieces.push(Buffer.from(bytes));
      this.#length += bytes.length;
      if (this.#length >= this.#leavesAfter) this.destroy();
      done();
    }, 4);
  }

  get received(): Buffer {
    return Buffer.concat(this.#pieces);
  }

  begin(): void {
    this.begun = true;
  }

  abort(): void {
    this.aborted = true;
    this.destroy();
  }

  flush(): void {}
  continue(): void {}
  closeAfterwards(): void {}
}

class TappedAgent extends Agent {
  override createConnection({ port }: { port?: number | string | null | undefined }): Socket {
    return connectTapped({ host: '127.0.0.1', port: Number(port) });
  }
}

interface Application {
  /** Asks it once, and resolves when nothing of the answer comes any more. */
  ask<T extends SlowAnswer>(answer: T): Promise<T>;
  readonly open: ReadonlySet<Socket>;
}

async function start(t: TestContext, answer: (socket: Socket) => void): Promise<Application> {
  const open = new Set<Socket>();
  const server = createServer((socket) => {
    open.add(socket);
    socket.once('close', () => open.delete(socket));
    socket.on('error', () => {});
    socket.on('data', () => answer(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const agent = new TappedAgent({ keepAlive: true });
  t.after(() => {
    agent.destroy();
    server.close();
  });
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  const { port } = address;
  return {
    open,
    async ask(answer) {
      const closed = once(answer, 'close');
      const exchange: HttpExchange = {
        ...{ method: 'GET', target: '/', rawHeaders: [], headers: {}, hasBody: false, bodyArrived: true },
        ...{ client: { address: undefined, scheme: 'http' }, body: Readable.from([]), answer },
      };
      passExchange(exchange, {
        address: { host: '127.0.0.1', port, agent },
        ...{ path: '/', headers: ['Host', 'a'], answerHeaders: () => [] },
        failed: (error) => answer.destroy(error),
      });
      await closed;
      return answer;
    },
  };
}

/** Head and body in one piece, so that part of the body is read together with the head. */
function framed(content: Buffer, framing: 'length' | 'chunks'): Buffer {
  const head =
    framing === 'length'
      ? `Content-Length: ${content.length}\r\n\r\n`
      : `Transfer-Encoding: chunked\r\n\r\n${content.length.toString(16)}\r\n`;
  const end = framing === 'length' ? '' : '\r\n0\r\n\r\n';
  return Buffer.concat([Buffer.from(`HTTP/1.1 200 OK\r\n${head}`), content, Buffer.from(end)]);
}

for (const framing of ['length', 'chunks'] as const)
  describe(`a body with ${framing} for clients that are slower than their application`, () => {
    test('arrives as it was sent, several at once', async (t) => {
      const contents = Array.from({ length: 6 }, () => randomBytes(LENGTH));
      let next = 0;
      const { ask } = await start(t, (socket) => {
        socket.write(framed(contents[next++ % contents.length] ?? Buffer.alloc(0), framing));
      });
      const answers = await Promise.all([...contents, ...contents].map(() => ask(new SlowAnswer())));
      for (const content of contents)
        assert.equal(answers.filter(({ received }) => received.equals(content)).length, 2);
    });

    test('ends with its client, and its connection too', async (t) => {
      const { ask, open } = await start(t, (socket) => {
        socket.write(framed(randomBytes(LENGTH), framing));
      });
      const { aborted } = await ask(new SlowAnswer(LENGTH / 3));
      assert.equal(aborted, false);
      while (open.size > 0) await sleep(5);
    });

    test('that breaks off is broken off', async (t) => {
      const { ask } = await start(t, (socket) => {
        socket.end(framed(randomBytes(LENGTH), framing).subarray(0, LENGTH - 100));
      });
      const { aborted, writableEnded } = await ask(new SlowAnswer());
      assert.deepEqual([aborted, writableEnded], [true, false]);
    });

    test('is whole though its connection breaks down behind it', async (t) => {
      const content = randomBytes(LENGTH);
      const { ask } = await start(t, (socket) => {
        socket.write(framed(content, framing), () => setTimeout(() => socket.resetAndDestroy(), 100));
      });
      const { aborted, received } = await ask(new SlowAnswer());
      assert.equal(aborted, false);
      assert.ok(received.equals(content));
    });
  });
