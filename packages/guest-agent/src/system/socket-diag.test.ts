import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { hexAddress } from '../ports/tcp-address.ts';
import { SocketDiag, TCP_ESTABLISHED, TCP_LISTEN, type TcpSocket } from './socket-diag.ts';

const skip = process.getuid?.() !== 0 && 'needs root';

const byText = (a: string, b: string) => (a < b ? -1 : 1);

function openDiag(t: TestContext): SocketDiag {
  const diag = new SocketDiag();
  t.after(() => diag.close());
  return diag;
}

/** An open connection, and its client's end as the kernel tells it. */
async function open(t: TestContext, host: string): Promise<{ client: Socket; found: TcpSocket; port: number }> {
  const server = createServer((socket) => socket.on('error', () => undefined));
  server.listen(0, host);
  await once(server, 'listening');
  t.after(() => server.close());
  const { port } = server.address() as AddressInfo;
  const client = connect(port, host);
  await once(client, 'connect');
  t.after(() => client.destroy());
  const found = openDiag(t)
    .list([TCP_ESTABLISHED])
    .find(({ localPort, remotePort }) => localPort === client.localPort && remotePort === port);
  assert.ok(found);
  return { client, found, port };
}

test('the sockets of a state are listed, and no others', async (t) => {
  const { client, port } = await open(t, '127.0.0.1');
  const six = await open(t, '::1');
  const diag = openDiag(t);
  const ofPorts = (states: number[]) =>
    diag
      .list(states)
      .filter(({ localPort }) => [port, client.localPort, six.port].includes(localPort))
      .map(({ family, localAddress, localPort, remoteAddress, remotePort, state }) =>
        [family, localAddress, localPort, remoteAddress, remotePort, state].join(' '),
      )
      .sort(byText);
  const here = hexAddress('127.0.0.1');
  const here6 = `${'0'.repeat(31)}1`;
  const listening = [
    `4 ${here} ${port} 00000000 0 ${TCP_LISTEN}`,
    `6 ${here6} ${six.port} ${'0'.repeat(32)} 0 ${TCP_LISTEN}`,
  ];
  const established = [
    `4 ${here} ${port} ${here} ${client.localPort} ${TCP_ESTABLISHED}`,
    `4 ${here} ${client.localPort} ${here} ${port} ${TCP_ESTABLISHED}`,
    `6 ${here6} ${six.port} ${here6} ${six.client.localPort} ${TCP_ESTABLISHED}`,
  ];
  assert.deepEqual(ofPorts([TCP_LISTEN]), listening.sort(byText));
  assert.deepEqual(ofPorts([TCP_ESTABLISHED]), established.sort(byText));
  assert.deepEqual(ofPorts([TCP_LISTEN, TCP_ESTABLISHED]), [...listening, ...established].sort(byText));
});

test('more sockets than one answer of the kernel holds are all listed', async (t) => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  const { port } = server.address() as AddressInfo;
  const clients = await Promise.all(
    Array.from({ length: 700 }, async () => {
      const client = connect(port, '127.0.0.1');
      t.after(() => client.destroy());
      await once(client, 'connect');
      return client.localPort;
    }),
  );
  const listed = new Set(
    openDiag(t)
      .list([TCP_ESTABLISHED])
      .filter(({ remotePort }) => remotePort === port)
      .map(({ localPort }) => localPort),
  );
  assert.deepEqual(listed, new Set(clients));
});

for (const host of ['127.0.0.1', '::1'])
  test(`a connection of ${host} is ended, its program told, and others go on`, { skip }, async (t) => {
    const { client, found } = await open(t, host);
    const other = await open(t, host);
    const failed = new Promise<NodeJS.ErrnoException>((resolve) => client.once('error', resolve));
    openDiag(t).destroy([found]);
    assert.equal((await failed).code, 'ECONNABORTED');
    assert.ok(other.client.write('still there'));
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(other.client.destroyed, false);
  });

test('one that is gone already is no error, and the server that it came to goes on listening', { skip }, async (t) => {
  const { client, found, port } = await open(t, '127.0.0.1');
  client.on('error', () => undefined);
  const diag = openDiag(t);
  const ofServer = diag.list([TCP_ESTABLISHED]).find(({ localPort }) => localPort === port);
  assert.ok(ofServer);
  diag.destroy([found, found, ofServer, ofServer]);
  const again = connect(port, '127.0.0.1');
  await once(again, 'connect');
  again.destroy();
});
