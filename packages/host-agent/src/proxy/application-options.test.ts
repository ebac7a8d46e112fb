import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer as createTlsServer } from 'node:https';
import { createServer as createTcpServer } from 'node:net';
import { describe, type TestContext, test } from 'node:test';
import { runCommand } from '@nestbox/kit';
import { WebSocket, WebSocketServer } from 'ws';
import { pathOf, portOf, startApp, startProxy } from './testing/proxy-under-test.ts';

const SECURE = { 'x-nestbox-secure-port': '1' };

async function startSecureApp(t: TestContext) {
  const { stdout } = await runCommand('openssl', [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-subj', '/CN=own'],
    ...['-days', '1', '-keyout', '-'],
  ]);
  const app = createTlsServer({ key: stdout, cert: stdout }, (incoming, response) => {
    if (incoming.url === '/away') response.writeHead(302, { location: `https://localhost:${portOf(app)}/in` });
    response.end(`secure ${incoming.headers.host}`);
  });
  await new Promise<void>((resolve) => app.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    app.closeAllConnections();
    app.close();
  });
  return app;
}

describe('an application that speaks TLS', () => {
  test('is reached whatever its certificate says, over kept connections, redirects included', async (t) => {
    const { ask } = await startProxy(t);
    const app = await startSecureApp(t);
    let connections = 0;
    app.on('secureConnection', () => {
      connections += 1;
    });
    for (let i = 0; i < 2; i++) {
      const { response, body } = await ask(pathOf(portOf(app), '/'), { headers: SECURE });
      assert.equal(response.statusCode, 200);
      assert.equal(body.toString(), 'secure 8080-i1.sandbox.example');
    }
    assert.equal(connections, 1);
    const { response } = await ask(pathOf(portOf(app), '/away'), { headers: SECURE });
    assert.equal(response.headers.location, '/in');
  });

  test('answers WebSockets too', async (t) => {
    const { socketPath } = await startProxy(t);
    const app = await startSecureApp(t);
    const sockets = new WebSocketServer({ server: app });
    t.after(() => sockets.close());
    sockets.on('connection', (socket) => socket.on('message', (data) => socket.send(data)));
    const client = new WebSocket(`ws+unix:${socketPath}:${pathOf(portOf(app), '/')}`, { headers: SECURE });
    await once(client, 'open');
    client.send('hello');
    assert.equal(String((await once(client, 'message'))[0]), 'hello');
    client.close();
    await once(client, 'close');
  });

  test('is a 502 when it does not speak TLS after all, and so is one that does when nobody said so', async (t) => {
    const { ask } = await startProxy(t);
    const plain = await startApp(t, (_incoming, response) => response.end('plain'));
    const dumb = createTcpServer((socket) => socket.once('data', () => socket.end()).on('error', () => {}));
    await new Promise<void>((resolve) => dumb.listen(0, '127.0.0.1', resolve));
    t.after(() => dumb.close());
    for (const port of [plain.port, portOf(dumb)]) {
      const { response, body } = await ask(pathOf(port, '/'), { headers: SECURE });
      assert.equal(response.statusCode, 502);
      assert.equal(JSON.parse(body.toString()).error_code, 'sandbox_unreachable');
    }
    const app = await startSecureApp(t);
    assert.equal((await ask(pathOf(portOf(app), '/'))).response.statusCode, 502);
  });
});

describe('an application that is to see another host', () => {
  test('gets that one alone, and its redirects to it stay inside', async (t) => {
    const { ask } = await startProxy(t);
    const hosts: string[][] = [];
    const app = await startApp(t, (incoming, response) => {
      hosts.push(incoming.rawHeaders.filter((_, index, all) => all[index - 1]?.toLowerCase() === 'host'));
      response.writeHead(302, { location: 'http://app.internal/next?a=1' }).end();
    });
    const headers = { 'x-nestbox-masked-host': 'app.internal' };
    const { response } = await ask(pathOf(app.port, '/'), { headers });
    assert.deepEqual(hosts, [['app.internal']]);
    assert.equal(response.headers.location, '/next?a=1');
  });

  test('never sees what is between edge and host', async (t) => {
    const { ask } = await startProxy(t);
    const names: string[] = [];
    const app = await startApp(t, (incoming, response) => {
      names.push(...Object.keys(incoming.headers));
      response.end();
    });
    await ask(pathOf(app.port, '/'), { headers: { 'x-nestbox-masked-host': 'x', 'X-Nestbox-Host-Token': 'secret' } });
    assert.deepEqual(names, ['host']);
  });
});
