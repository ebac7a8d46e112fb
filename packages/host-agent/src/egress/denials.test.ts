import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createLogger } from '@nestbox/kit';
import fc from 'fast-check';
import { DenialFeed, type EgressDenial } from './denials.ts';
import { logSubscription, readDeniedPackets } from './denied-packets.ts';

const denial = { protocol: 'tcp', address: '203.0.113.1', port: 443, reason: 'no' };

test('a sandbox that tries without end is told as often as somebody can read, and how much was left out', (t) => {
  t.mock.timers.enable({ apis: ['Date'], now: 1_000_000 });
  const feed = new DenialFeed(createLogger({ level: 'silent' }));
  const told: EgressDenial[] = [];
  const stop = feed.onDenied((one) => told.push(one));
  for (let i = 0; i < 1000; i++) feed.tell('loud', denial);
  feed.tell('quiet', denial);
  assert.equal(told.filter(({ sandboxId }) => sandboxId === 'loud').length, 20);
  assert.equal(told.at(-1)?.sandboxId, 'quiet');
  t.mock.timers.tick(1000);
  for (let i = 0; i < 10; i++) feed.tell('loud', denial);
  assert.deepEqual(
    told.slice(21).map(({ untold }) => untold),
    [980, 0],
  );
  assert.partialDeepStrictEqual(told[0], { sandboxId: 'loud', atMs: 1_000_000, name: undefined, ...denial });
  stop();
  t.mock.timers.tick(60_000);
  feed.tell('loud', denial);
  assert.equal(told.length, 23);
});

test('the log has sandbox, name and port of each', () => {
  const lines: string[] = [];
  const logger = createLogger({ level: 'info', name: 'nestbox', write: (line) => lines.push(line) });
  new DenialFeed(logger).tell('loud', { ...denial, name: 'evil.example' });
  const [line = ''] = lines;
  assert.partialDeepStrictEqual(JSON.parse(line), {
    name: 'nestbox',
    sandboxId: 'loud',
    host: 'evil.example',
    address: denial.address,
    port: denial.port,
  });
  assert.equal(line.match(/"name":/g)?.length, 1, line);
});

/** A message as the kernel sends it: other attributes before and after the packet. */
function message(packet: Buffer): Buffer {
  const attribute = (type: number, value: Buffer) => {
    const data = Buffer.alloc((4 + value.length + 3) & ~3);
    data.writeUInt16LE(4 + value.length, 0);
    data.writeUInt16LE(type, 2);
    value.copy(data, 4);
    return data;
  };
  const attributes = Buffer.concat([
    attribute(1, Buffer.alloc(4)),
    attribute(9, packet),
    attribute(4, Buffer.alloc(1)),
  ]);
  const head = Buffer.alloc(20);
  head.writeUInt32LE(20 + attributes.length, 0);
  head.writeUInt16LE(4 << 8, 4);
  return Buffer.concat([head, attributes]);
}

function packet(protocol: number, options = 0): Buffer {
  const data = Buffer.alloc(20 + options * 4 + 8);
  data[0] = 0x45 + options;
  data[9] = protocol;
  data.set([203, 0, 113, 7], 16);
  data.writeUInt16BE(8443, 20 + options * 4 + 2);
  return data;
}

test('address, protocol and port of denied packets are read, also behind options and several in one piece', () => {
  const found = readDeniedPackets(
    Buffer.concat([message(packet(6)), message(packet(17, 10)), message(packet(1)), message(packet(47))]),
  );
  assert.deepEqual(
    found.map(({ protocol, address, port }) => [protocol, address, port]),
    [
      ['tcp', '203.0.113.7', 8443],
      ['udp', '203.0.113.7', 8443],
      ['icmp', '203.0.113.7', undefined],
      ['47', '203.0.113.7', undefined],
    ],
  );
});

test('whatever comes from the kernel’s log never throws and never loops', () => {
  const real = message(packet(6));
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(real.length - 1), fc.nat(255), (bytes, at, value) => {
      readDeniedPackets(Buffer.from(bytes));
      const changed = Buffer.from(real);
      changed[at] = value;
      readDeniedPackets(changed);
      readDeniedPackets(real.subarray(0, at));
    }),
  );
  for (const one of logSubscription(1, 64)) assert.equal(one.readUInt32LE(0), one.length);
});
