import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { type TestContext, test } from 'node:test';
import { SocketDiag } from '../system/socket-diag.ts';
import { PortForwarding } from './port-forwarding.ts';

/** Loopback too, but not the address that counts as localhost. */
const OUTSIDE = '127.0.0.79';

async function listen(t: TestContext, host: string): Promise<{ server: Server; port: number }> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => socket.destroy());
    socket.pipe(socket);
  });
  server.listen(0, host);
  await once(server, 'listening');
  t.after(() => server.close());
  return { server, port: (server.address() as AddressInfo).port };
}

async function echo(port: number, text: string): Promise<string> {
  const socket = connect(port, OUTSIDE);
  await once(socket, 'connect');
  socket.end(text);
  return (await buffer(socket)).toString();
}

/** Sees only the given ports, so that the test forwards nothing of anybody else. */
function forwardingOf(t: TestContext, ports: readonly number[]): PortForwarding {
  const diag = new SocketDiag();
  const forwarding = new PortForwarding(OUTSIDE, (states) =>
    diag.list(states).filter(({ localPort }) => ports.includes(localPort)),
  );
  t.after(() => {
    forwarding.stop();
    diag.close();
  });
  return forwarding;
}

async function refused(port: number): Promise<void> {
  const socket = connect(port, OUTSIDE);
  const [error] = await once(socket, 'error');
  assert.equal(error.code, 'ECONNREFUSED');
}

test('a server on localhost is reachable from outside, until it is gone', async (t) => {
  const { server, port } = await listen(t, '127.0.0.1');
  const forwarding = forwardingOf(t, [port]);
  forwarding.scan();
  const text = 'x'.repeat(300_000);
  assert.equal(await echo(port, text), text);
  forwarding.scan();
  assert.equal(await echo(port, 'still'), 'still');
  server.close();
  await once(server, 'close');
  forwarding.scan();
  await refused(port);
});

test('a server on the IPv6 localhost is reachable from outside', async (t) => {
  const { port } = await listen(t, '::1');
  const forwarding = forwardingOf(t, [port]);
  forwarding.scan();
  assert.equal(await echo(port, 'six'), 'six');
});

test('stopping closes the forwarded connections, and starting makes new ones possible', async (t) => {
  const { port } = await listen(t, '127.0.0.1');
  const forwarding = forwardingOf(t, [port]);
  forwarding.scan();
  const open = connect(port, OUTSIDE);
  await once(open, 'connect');
  open.write('a');
  await once(open, 'data');
  const closed = once(open, 'close');
  open.on('error', () => undefined);
  forwarding.stop();
  await closed;
  await refused(port);
  forwarding.scan();
  assert.equal(await echo(port, 'again'), 'again');
});

test('a port that somebody takes on the outside address is left to them', async (t) => {
  const { port } = await listen(t, '127.0.0.1');
  const own = createServer((socket) => socket.end('own'));
  own.listen(port, OUTSIDE);
  await once(own, 'listening');
  t.after(() => own.close());
  const forwarding = forwardingOf(t, [port]);
  forwarding.scan();
  assert.equal(await echo(port, ''), 'own');
});
