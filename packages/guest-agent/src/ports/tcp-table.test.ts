import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { loopbackPorts } from './port-forwarding.ts';
import { addressBytes, ipv4Address, isLoopback, parseTcpTable, TCP_LISTEN } from './tcp-table.ts';

const TCP = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 00000000:C33F 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1 0 100 0 0 10 0
   2: 1500FEA9:C33F 1600FEA9:A1B2 01 00000000:00000000 00:00000000 00000000     0        0 3 1 0 20 4 0 10 -1
`;
const TCP6 = `  sl  local_address                         remote_address                        st tx_queue
   0: 00000000000000000000000001000000:0BB8 00000000000000000000000000000000:0000 0A 00000000:00000000 00:0
   1: 0000000000000000FFFF00000100007F:0BB9 00000000000000000000000000000000:0000 0A 00000000:00000000 00:0
   2: 00000000000000000000000000000000:0BBA 00000000000000000000000000000000:0000 0A 00000000:00000000 00:0
`;

test('addresses, ports and states are read from both tables', () => {
  const sockets = parseTcpTable(TCP);
  assert.deepEqual(
    sockets.map(({ localAddress, localPort, state }) => [localAddress, localPort, state]),
    [
      ['127.0.0.1', 8080, TCP_LISTEN],
      ['0.0.0.0', 49983, TCP_LISTEN],
      ['169.254.0.21', 49983, 1],
    ],
  );
  assert.deepEqual([sockets[2]?.remoteAddress, sockets[2]?.remotePort], ['169.254.0.22', 0xa1b2]);
  assert.deepEqual(
    parseTcpTable(TCP6).map((socket) => [socket.family, socket.localPort, isLoopback(socket)]),
    [
      [6, 3000, true],
      [6, 3001, true],
      [6, 3002, false],
    ],
  );
});

test('the ports to forward are those that listen on localhost and nowhere else', () => {
  const sockets = parseTcpTable(TCP + TCP6);
  assert.deepEqual(
    [...loopbackPorts(sockets, '169.254.0.21')],
    [
      [8080, 4],
      [3000, 6],
      [3001, 6],
    ],
  );
  const everywhere = parseTcpTable(`${TCP}   9: 00000000:1F90 00000000:0000 0A 0\n`);
  assert.equal(loopbackPorts(everywhere, '169.254.0.21').has(8080), false);
  const ownAddress = parseTcpTable(`${TCP}   9: 1500FEA9:1F90 00000000:0000 0A 0\n`);
  assert.equal(loopbackPorts(ownAddress, '169.254.0.21').has(8080), false);
});

test('addresses are told in bytes, and as IPv4 where they mean that', () => {
  const mapped = '00000000000000000000ffffa9fe0015';
  assert.deepEqual([ipv4Address('169.254.0.21'), ipv4Address(mapped)], ['169.254.0.21', '169.254.0.21']);
  assert.equal(ipv4Address('0'.repeat(31).concat('1')), undefined);
  assert.deepEqual([...addressBytes('169.254.0.21')], [169, 254, 0, 21]);
  assert.deepEqual([...addressBytes(mapped)], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 169, 254, 0, 21]);
});

test('whatever the kernel lists is read back, and no other text breaks the parser', () => {
  const port = fc.integer({ min: 0, max: 0xffff });
  const octets = fc.array(fc.integer({ min: 0, max: 255 }), { minLength: 4, maxLength: 4 });
  const hex = (value: number, digits: number) => value.toString(16).toUpperCase().padStart(digits, '0');
  const address = (bytes: number[]) =>
    bytes
      .toReversed()
      .map((byte) => hex(byte, 2))
      .join('');
  fc.assert(
    fc.property(octets, port, octets, port, fc.integer({ min: 1, max: 11 }), (local, localPort, remote, far, state) => {
      const line = `  0: ${address(local)}:${hex(localPort, 4)} ${address(remote)}:${hex(far, 4)} ${hex(state, 2)} 0:0 x\n`;
      assert.deepEqual(parseTcpTable(line), [
        {
          family: 4,
          localAddress: local.join('.'),
          localPort,
          remoteAddress: remote.join('.'),
          remotePort: far,
          state,
        },
      ]);
    }),
  );
  fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => void parseTcpTable(text)));
  const token = fc.constantFrom('0:', ' ', '0100007F', ':', '1F90', '0A', 'x', '\n');
  fc.assert(fc.property(fc.array(token), (tokens) => void parseTcpTable(tokens.join(''))));
});
