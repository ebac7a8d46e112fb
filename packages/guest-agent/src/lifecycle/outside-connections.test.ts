import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TCP_ESTABLISHED, type TcpSocket } from '../system/socket-diag.ts';
import { socketOf } from '../testing/tcp-socket.ts';
import { outsideConnections } from './outside-connections.ts';

const GUEST = '169.254.0.21';
const HOST = '10.12.0.4';

function socket(localAddress: string, remoteAddress: string): TcpSocket {
  return socketOf({ localAddress, localPort: 40_000, remoteAddress, remotePort: 443, state: TCP_ESTABLISHED });
}

test('connections that lead out are found, in both notations', () => {
  const open = [
    socket(GUEST, '203.0.113.10'),
    socket(GUEST, '10.12.0.2'),
    socket(`::ffff:${GUEST}`, '::ffff:203.0.113.10'),
  ];
  assert.deepEqual(outsideConnections(open, GUEST, HOST), open);
});

test('those inside the guest, those of the host since the restore and those that are none are left alone', () => {
  const left = [
    socket('127.0.0.1', '127.0.0.1'),
    socket(GUEST, GUEST),
    // To a container of the sandbox.
    socket('172.17.0.1', '172.17.0.2'),
    socket(GUEST, HOST),
    socket(`::ffff:${GUEST}`, `::ffff:${HOST}`),
    socket('::1', '::1'),
  ];
  assert.deepEqual(outsideConnections(left, GUEST, HOST), []);
});
