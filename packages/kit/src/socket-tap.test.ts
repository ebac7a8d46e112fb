import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { Agent, type ClientRequest, request } from 'node:http';
import { createServer, type Socket } from 'node:net';
import { describe, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { connectTapped, tapOf } from './socket-tap.ts';

const content = randomBytes(3 * 1024 * 1024);
const HEAD = `HTTP/1.1 200 OK\r\nContent-Length: ${content.length}\r\n\r\n`;

class TappedAgent extends Agent {
  override createConnection({ port }: { port?: number | string | null | undefined }): Socket {
    return connectTapped({ host: '127.0.0.1', port: Number(port) });
  }
}

/** Asks a server that answers each connection's first bytes by `answer`. */
async function ask(t: TestContext, answer: (socket: Socket) => void): Promise<ClientRequest> {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', () => answer(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const agent = new TappedAgent({ keepAlive: true });
  t.after(() => {
    agent.destroy();
    server.close();
  });
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  const outgoing = request({ host: '127.0.0.1', port: address.port, agent });
  outgoing.once('socket', (socket) => tapOf(socket)?.expectHead());
  return outgoing;
}

describe('a tapped body', () => {
  for (const [what, size] of [
    ['of unknown size', 'unknown'],
    ['known to be large', 'large'],
  ] as const)
    test(`${what} comes one read at a time, whoever else wants the socket to read meanwhile`, async (t) => {
      const outgoing = await ask(t, (socket) => socket.end(Buffer.concat([Buffer.from(HEAD), content])));
      const came: Buffer[] = [];
      let length = 0;
      let under = 0;
      const { promise: whole, resolve } = Promise.withResolvers<void>();
      outgoing.once('response', (incoming) => {
        const taken = tapOf(incoming.socket)?.take((bytes, done) => {
          under += 1;
          assert.equal(under, 1, 'more came while the bytes before were still in use');
          length += bytes.length;
          // What Node does by itself now and then: after a push, and when somebody wants to read the answer.
          process.nextTick(() => incoming.socket.read(0));
          setImmediate(() => incoming.socket.resume());
          void sleep(3).then(() => {
            came.push(Buffer.from(bytes));
            under -= 1;
            done();
            if (length === content.length) resolve();
          });
        }, size);
        assert.equal(taken, true);
        incoming.on('error', () => {});
      });
      outgoing.on('error', () => {});
      outgoing.end();
      await whole;
      assert.ok(Buffer.concat(came).equals(content));
    });
});
