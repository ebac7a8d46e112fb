import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type IncomingMessage, request, type Server } from 'node:http';
import type { Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { describe, test } from 'node:test';
import { WebSocket, WebSocketServer } from 'ws';
import { echo, Stage } from '../testing/edge-stage.ts';

describe('upgrades through the edge', () => {
  /** Lets the host's proxy answer upgrades like an application that echoes bytes. */
  function echoUpgrades(proxy: Server, seen: IncomingMessage[] = [], greeting = ''): void {
    proxy.on('upgrade', (incoming: IncomingMessage, socket: Socket, head: Buffer) => {
      seen.push(incoming);
      socket.on('error', () => {});
      socket.write(
        `HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\nX-App: yes\r\n\r\n${greeting}`,
      );
      if (head.length > 0) socket.write(head);
      socket.pipe(socket);
    });
  }

  test('a WebSocket talks both ways, and closes with its code', async () => {
    await using stage = await Stage.open(echo());
    const sockets = new WebSocketServer({ server: stage.host.proxy });
    sockets.on('connection', (socket, incoming) => {
      socket.send(`path ${incoming.url}`);
      socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
    });
    const client = new WebSocket(`${stage.server.edgeUrl.replace('http', 'ws')}/live?x=1`, {
      headers: stage.routing(),
    });
    const messages: Buffer[] = [];
    const all = Promise.withResolvers<void>();
    const large = Buffer.alloc(3_000_000, 7);
    client.on('message', (data: Buffer) => {
      messages.push(data);
      if (messages.length === 3) all.resolve();
    });
    await once(client, 'open');
    client.send('hello');
    client.send(large);
    await all.promise;
    assert.equal(messages[0]?.toString(), `path /proxy/${stage.sandboxId}/8080/live?x=1`);
    assert.equal(messages[1]?.toString(), 'hello');
    assert.ok(messages[2]?.equals(large));
    const serverSide = [...sockets.clients][0];
    serverSide?.close(4001, 'bye');
    const [code, reason] = await once(client, 'close');
    assert.deepEqual([code, String(reason)], [4001, 'bye']);
    sockets.close();
  });

  test('bytes that come along with the head on either side are the first to arrive', async () => {
    const seen: IncomingMessage[] = [];
    await using stage = await Stage.open(echo());
    echoUpgrades(stage.host.proxy, seen, 'welcome ');
    const socket = await stage.socket();
    socket.write(
      `GET /t HTTP/1.1\r\nHost: ${stage.hostName}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: echo\r\nX-Mine: 1\r\n\r\nearly`,
    );
    socket.end(' late');
    const answer = await text(socket);
    const [head, body] = answer.split('\r\n\r\n');
    assert.match(head ?? '', /^HTTP\/1\.1 101 Switching Protocols\r\n/);
    assert.match(head ?? '', /X-App: yes/);
    assert.equal(body, 'welcome early late', 'an end of one direction leaves the other one open');
    assert.equal(seen[0]?.headers.upgrade, 'echo');
    assert.equal(seen[0]?.headers['x-mine'], '1');
    assert.equal(seen[0]?.url, `/proxy/${stage.sandboxId}/8080/t`);
  });

  test('a refusal of the application is its answer to the client', async () => {
    await using stage = await Stage.open((_incoming, response) =>
      response.writeHead(418, { 'X-App': 'yes' }).end('no sockets here'),
    );
    const answer = await stage.raw(
      `GET / HTTP/1.1\r\nHost: ${stage.hostName}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n`,
    );
    assert.match(answer, /^HTTP\/1\.1 418 /);
    assert.match(answer, /no sockets here$/);
  });

  test('errors come as HTTP too: no sandbox, bad address, no proxy, no token', async () => {
    await using stage = await Stage.open(echo(), { network: { allowPublicTraffic: false } });
    const ask = (host: string, more = '') =>
      stage.raw(`GET / HTTP/1.1\r\nHost: ${host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n${more}\r\n`);
    assert.match(await ask('80-iunknown.x'), /^HTTP\/1\.1 502 .*"sandboxId":"iunknown"/s);
    assert.match(await ask('nothing'), /^HTTP\/1\.1 400 /);
    assert.match(await ask(stage.hostName), /^HTTP\/1\.1 403 /);
    await stage.host[Symbol.asyncDispose]();
    const token = `e2b-traffic-access-token: ${stage.trafficToken}\r\n`;
    assert.match(await ask(stage.hostName, token), /^HTTP\/1\.1 503 /);
  });

  test('when one side is gone the other one goes, whichever it is', async () => {
    await using stage = await Stage.open(echo());
    const upstream: Socket[] = [];
    stage.host.proxy.on('upgrade', (_incoming, socket: Socket) => {
      socket.on('error', () => {});
      socket.resume();
      upstream.push(socket);
      socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n');
    });
    const open = async () => {
      const socket = await stage.socket();
      socket.on('error', () => {});
      socket.write(`GET / HTTP/1.1\r\nHost: ${stage.hostName}\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n`);
      await once(socket, 'data');
      const guest = upstream.at(-1);
      assert.ok(guest !== undefined);
      return { socket, guest };
    };
    const first = await open();
    const guestEnded = once(first.guest, 'end');
    first.socket.resetAndDestroy();
    await guestEnded;

    const second = await open();
    const clientEnded = once(second.socket, 'end');
    second.socket.resume();
    second.guest.destroy();
    await clientEnded;
    second.socket.end();

    const third = await open();
    const stopped = once(third.socket, 'end');
    third.socket.resume();
    await stage.server.stop();
    await stopped;
    third.socket.destroy();
  });

  test('an offer of HTTP/2 in clear text is answered in HTTP/1.1', async () => {
    const seen: IncomingMessage[] = [];
    await using stage = await Stage.open(echo(seen));
    const answer = await new Promise<IncomingMessage>((resolve) => {
      request(
        stage.server.edgeUrl,
        {
          method: 'POST',
          headers: {
            ...stage.routing(),
            Connection: 'Upgrade, HTTP2-Settings',
            Upgrade: 'h2c',
            'HTTP2-Settings': 'AAM',
          },
        },
        resolve,
      ).end('body');
    });
    assert.equal(answer.statusCode, 200);
    assert.equal(await text(answer), 'body');
    assert.equal(seen[0]?.headers.upgrade, undefined);
    assert.equal(seen[0]?.headers['http2-settings'], undefined);
  });
});
