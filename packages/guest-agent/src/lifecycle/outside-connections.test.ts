import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { TcpSocket } from '../ports/tcp-table.ts';
import { outsideConnections } from './outside-connections.ts';

const GUEST = '169.254.0.21';
const HOST = '10.12.0.4';
const mapped = (hex: string) => `${'0'.repeat(20)}ffff${hex}`;

function socket(localAddress: string, remoteAddress: string, state = 1): TcpSocket {
  const family = localAddress.includes('.') ? 4 : 6;
  return { family, localAddress, localPort: 40_000, remoteAddress, remotePort: 443, state };
}

test('connections that lead out are found, in every state in which somebody waits, in both notations', () => {
  const open = [
    ...[1, 4, 5, 8, 9, 11].map((state) => socket(GUEST, '203.0.113.10', state)),
    socket(GUEST, '10.12.0.2'),
    socket(mapped('a9fe0015'), mapped('cb00710a')),
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
    socket(mapped('a9fe0015'), mapped('0a0c0004')),
    socket('0'.repeat(31).concat('1'), '0'.repeat(31).concat('1')),
    ...[2, 3, 6, 7, 10].map((state) => socket(GUEST, '203.0.113.10', state)),
  ];
  assert.deepEqual(outsideConnections(left, GUEST, HOST), []);
});
