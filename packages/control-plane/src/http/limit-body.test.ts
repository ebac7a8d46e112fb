import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect as connectHttp2 } from 'node:http2';
import { type AddressInfo, connect, type Server } from 'node:net';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { errorBody } from '@nestbox/contract/http';
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { limitBody } from './limit-body.ts';

const TIMEOUT_MS = 200;

/** Answers how many bytes it got; under /early before it has read them. */
async function serve(app: FastifyInstance): Promise<number> {
  const handlerRan = () => assert.fail('a handler ran without its body');
  app.addHook('onRequest', async (request: FastifyRequest, reply: FastifyReply) => {
    limitBody(request, reply, TIMEOUT_MS);
    if (request.url === '/early') await reply.code(401).send({ early: true });
  });
  app.post('/late', async ({ body }) => (body === 'whole' ? { got: body } : handlerRan()));
  app.post('/early', async () => handlerRan());
  app.addContentTypeParser('text/plain', { parseAs: 'string' }, (_request, body, done) => done(null, body));
  await app.listen({ port: 0, host: '127.0.0.1' });
  return (app.server.address() as AddressInfo).port;
}

const connectionsOf = (server: Server) =>
  new Promise<number>((resolve) => server.getConnections((_error, count) => resolve(count)));

test('a body that stops half-way is answered with 408 by HTTP/1.1, and its connection is closed', async () => {
  await using app = fastify();
  const port = await serve(app);
  const ask = async (path: string, body: string) => {
    const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    const head = `POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n`;
    socket.write(`${head}${body === 'whole' ? 'Connection: close\r\n' : ''}\r\n${body}`);
    const answer = await text(socket);
    socket.end();
    return answer;
  };
  assert.match(await ask('/late', 'whole'), /^HTTP\/1\.1 200 [\s\S]*"whole"/);
  const late = await ask('/late', 'wh');
  assert.match(late, /^HTTP\/1\.1 408 /);
  const { code, error_code } = errorBody.parse(JSON.parse(late.slice(late.indexOf('\r\n\r\n') + 4)));
  assert.deepEqual([code, error_code], [408, 'deadline_exceeded']);
  assert.match(await ask('/early', 'wh'), /^HTTP\/1\.1 401 /);
  while ((await connectionsOf(app.server)) > 0) await new Promise((resolve) => setImmediate(resolve));
});

test('the same by HTTP/2 ends the stream alone', async () => {
  await using app = fastify({ http2: true }) as unknown as FastifyInstance & AsyncDisposable;
  const session = connectHttp2(`http://127.0.0.1:${await serve(app)}`);
  const ask = async (path: string, body: string) => {
    const stream = session.request({ ':path': path, ':method': 'POST', 'content-type': 'text/plain' });
    const closed = once(stream, 'close');
    if (body === 'whole') stream.end(body);
    else stream.write(body);
    let answer = '';
    stream.setEncoding('utf8').on('data', (piece: string) => {
      answer += piece;
    });
    const [head] = await once(stream, 'response');
    await closed;
    return [head[':status'], JSON.parse(answer)] as const;
  };
  assert.deepEqual(await ask('/late', 'whole'), [200, { got: 'whole' }]);
  const [status, late] = await ask('/late', 'wh');
  assert.deepEqual([status, errorBody.parse(late).error_code], [408, 'deadline_exceeded']);
  assert.deepEqual(await ask('/early', 'wh'), [401, { early: true }]);
  assert.deepEqual(await ask('/late', 'whole'), [200, { got: 'whole' }]);
  session.close();
});
