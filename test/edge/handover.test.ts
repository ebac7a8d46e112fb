import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { text } from 'node:stream/consumers';
import { describe, test } from 'node:test';
import { WebSocket, WebSocketServer } from 'ws';
import { z } from 'zod';
import { type ProxyStack, SANDBOX_ID, startApplication, startProxyStack } from '../support/proxy-stack.ts';

const proxyError = z.object({ code: z.int(), error_code: z.string(), sandboxId: z.string(), port: z.int() });

describe('a request that the edge hands to the host’s proxy in the same process', () => {
  function open(stack: ProxyStack, port: number, path = '/'): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const outgoing = request({ port: stack.edgePort, path, headers: { host: stack.host(port) } }, resolve);
      outgoing.once('error', reject).end();
    });
  }

  test('takes one connection to the application, which is used again', async () => {
    await using stack = await startProxyStack();
    const ports = new Set<number | undefined>();
    await using app = await startApplication((incoming, response) => {
      ports.add(incoming.socket.remotePort);
      response.end(incoming.url);
    });
    for (const path of ['/a', '/b//c?d']) assert.equal(await text(await open(stack, app.port, path)), path);
    assert.equal(ports.size, 1);
  });

  test('is told why by the host’s proxy: a port that is closed names sandbox and port', async () => {
    await using stack = await startProxyStack();
    const app = await startApplication(() => {});
    await app[Symbol.asyncDispose]();
    const answer = await open(stack, app.port);
    assert.equal(answer.statusCode, 502);
    const error = proxyError.parse(JSON.parse(await text(answer)));
    assert.deepEqual([error.error_code, error.sandboxId, error.port], ['port_not_open', SANDBOX_ID, app.port]);
  });

  test('is refused before a pause, while those in flight end; WebSockets are closed when their time is over', async () => {
    await using stack = await startProxyStack();
    const { promise: finish, resolve: goOn } = Promise.withResolvers<void>();
    await using app = await startApplication(async (_incoming, response) => {
      response.write('begun ');
      await finish;
      response.end('ended');
    });
    const sockets = new WebSocketServer({ server: app });
    const socket = new WebSocket(`ws://127.0.0.1:${stack.edgePort}/`, { headers: { Host: stack.host(app.port) } });
    await once(socket, 'open');
    const flying = await open(stack, app.port);
    const drained = stack.proxy.drain(SANDBOX_ID, 300);
    const refused = await open(stack, app.port);
    assert.equal(refused.statusCode, 502);
    assert.equal(proxyError.parse(JSON.parse(await text(refused))).error_code, 'sandbox_unreachable');
    goOn();
    assert.equal(await text(flying), 'begun ended');
    const closed = once(socket, 'close');
    await drained;
    await closed;
    stack.proxy.admit(SANDBOX_ID);
    assert.equal((await open(stack, app.port)).statusCode, 200);
    sockets.close();
  });

  test('ends with the sandbox, and looks cut', async () => {
    await using stack = await startProxyStack();
    await using app = await startApplication((_incoming, response) => {
      response.write('begun');
    });
    const sockets = new WebSocketServer({ server: app });
    const socket = new WebSocket(`ws://127.0.0.1:${stack.edgePort}/`, { headers: { Host: stack.host(app.port) } });
    await once(socket, 'open');
    const flying = await open(stack, app.port);
    const ended = [assert.rejects(text(flying)), once(socket, 'close')];
    stack.proxy.dropSandbox(SANDBOX_ID);
    await Promise.all(ended);
    sockets.close();
  });
});
