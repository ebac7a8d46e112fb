import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { readTcpSocketsNow } from '../ports/tcp-sockets.ts';
import { addressBytes } from '../ports/tcp-table.ts';
import { destroyTcpConnections, type TcpEnd } from './socket-diag.ts';

const skip = process.getuid?.() !== 0 && 'needs root';

/** An open connection, its client's end as the kernel's own table tells it. */
async function open(t: TestContext, host: string): Promise<{ client: Socket; end: TcpEnd; port: number }> {
  const server = createServer((socket) => socket.on('error', () => undefined));
  server.listen(0, host);
  await once(server, 'listening');
  t.after(() => server.close());
  const { port } = server.address() as AddressInfo;
  const client = connect(port, host);
  await once(client, 'connect');
  t.after(() => client.destroy());
  const found = readTcpSocketsNow().find(
    ({ localPort, remotePort }) => localPort === client.localPort && remotePort === client.remotePort,
  );
  assert.ok(found);
  const { localPort, remotePort } = found;
  const end = {
    localAddress: addressBytes(found.localAddress),
    localPort,
    remoteAddress: addressBytes(found.remoteAddress),
    remotePort,
  };
  return { client, end, port };
}

for (const host of ['127.0.0.1', '::1'])
  test(`a connection of ${host} is ended, its program told, and others go on`, { skip }, async (t) => {
    const { client, end } = await open(t, host);
    const other = await open(t, host);
    const failed = new Promise<NodeJS.ErrnoException>((resolve) => client.once('error', resolve));
    destroyTcpConnections([end]);
    assert.equal((await failed).code, 'ECONNABORTED');
    assert.ok(other.client.write('still there'));
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(other.client.destroyed, false);
  });

test('one that is gone already is no error, and the server that it came to goes on listening', { skip }, async (t) => {
  const { client, end, port } = await open(t, '127.0.0.1');
  client.on('error', () => undefined);
  const ofServer = {
    localAddress: end.remoteAddress,
    localPort: end.remotePort,
    remoteAddress: end.localAddress,
    remotePort: end.localPort,
  };
  destroyTcpConnections([end, end, ofServer, ofServer]);
  const again = connect(port, '127.0.0.1');
  await once(again, 'connect');
  again.destroy();
});
