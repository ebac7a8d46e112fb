import assert from 'node:assert/strict';
import { test } from 'node:test';
import { socketOf } from '../testing/tcp-socket.ts';
import { loopbackPorts } from './port-forwarding.ts';
import { hexAddress, ipv4Address, isAnyAddress, isLoopback } from './tcp-address.ts';

const TCP_LISTEN = 10;

test('an address means the same in both notations', () => {
  assert.equal(hexAddress('169.254.0.21'), 'a9fe0015');
  assert.equal(ipv4Address('a9fe0015'), 'a9fe0015');
  assert.equal(ipv4Address('00000000000000000000ffffa9fe0015'), 'a9fe0015');
  assert.equal(ipv4Address('0'.repeat(31).concat('1')), undefined);
});

test('loopback and every address are known in both versions', () => {
  const listening = (address: string) => socketOf({ localAddress: address, localPort: 80, state: TCP_LISTEN });
  for (const address of ['127.0.0.1', '::1', '::ffff:127.0.0.1']) {
    assert.equal(isLoopback(listening(address)), true, address);
    assert.equal(isAnyAddress(listening(address)), false, address);
  }
  for (const address of ['0.0.0.0', '::']) {
    assert.equal(isAnyAddress(listening(address)), true, address);
    assert.equal(isLoopback(listening(address)), false, address);
  }
  assert.equal(isLoopback(listening('127.0.0.2')), false);
});

test('the ports to forward are those that listen on localhost alone', () => {
  const sockets = [
    socketOf({ localAddress: '127.0.0.1', localPort: 8080, state: TCP_LISTEN }),
    socketOf({ localAddress: '0.0.0.0', localPort: 49_983, state: TCP_LISTEN }),
    socketOf({ localAddress: '169.254.0.21', localPort: 49_983, remoteAddress: '169.254.0.22', state: 1 }),
    socketOf({ localAddress: '::1', localPort: 3000, state: TCP_LISTEN }),
    socketOf({ localAddress: '::ffff:127.0.0.1', localPort: 3001, state: TCP_LISTEN }),
    socketOf({ localAddress: '::', localPort: 3002, state: TCP_LISTEN }),
  ];
  const bindAddress = hexAddress('169.254.0.21');
  assert.deepEqual(
    [...loopbackPorts(sockets, bindAddress)],
    [
      [8080, 4],
      [3000, 6],
      [3001, 6],
    ],
  );
  for (const localAddress of ['0.0.0.0', '169.254.0.21']) {
    const more = [...sockets, socketOf({ localAddress, localPort: 8080, state: TCP_LISTEN })];
    assert.equal(loopbackPorts(more, bindAddress).has(8080), false, localAddress);
  }
});
