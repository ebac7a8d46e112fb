import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { type TestContext, test } from 'node:test';
import { parseIpv4 } from '@nestbox/contract';
import packet, { type Answer } from 'dns-packet';
import fc from 'fast-check';
import { answerQuestion } from './dns-answer.ts';
import { NameLookup } from './name-lookup.ts';

/** A resolver on the loopback that answers each A question with these addresses and lifetimes. */
async function upstream(t: TestContext, records: () => readonly [string, number][]) {
  const asked: string[] = [];
  const socket = createSocket('udp4', (message, from) => {
    const query = packet.decode(message);
    const [question] = query.questions ?? [];
    asked.push(question?.name ?? '');
    const answers = records().map(([data, ttl]): Answer => ({ type: 'A', name: question?.name ?? '', ttl, data }));
    socket.send(
      packet.encode({ type: 'response', id: query.id ?? 0, flags: 0x180, questions: query.questions ?? [], answers }),
      from.port,
      from.address,
    );
  });
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  t.after(() => socket.close());
  const closed = parseIpv4('10.0.0.1');
  const lookup = new NameLookup({
    upstream: async () => `127.0.0.1:${socket.address().port}`,
    isClosed: (address) => address === closed,
  });
  return { lookup, asked };
}

const silent = { isAllowed: () => true, open: async () => {}, denied: () => {} };
const question = (name: string, type: number | 'A' = 'A') => {
  const query = packet.encode({ type: 'query', id: 9, flags: 0x100, questions: [{ type: 'A', name }] });
  if (typeof type === 'number') query.writeUInt16BE(type, query.length - 4);
  return query;
};

test('answers are kept for their lifetime, which counts down, and then asked for again', async (t) => {
  t.mock.timers.enable({ apis: ['Date'], now: 1_000_000 });
  const { lookup, asked } = await upstream(t, () => [
    ['203.0.113.1', 30],
    ['203.0.113.2', 90_000],
    ['10.0.0.1', 60],
  ]);
  const first = await Promise.all([lookup.addresses('a.example'), lookup.addresses('a.example')]);
  assert.equal(asked.length, 1);
  assert.deepEqual(first[0], { open: [parseIpv4('203.0.113.1'), parseIpv4('203.0.113.2')], closed: 1, ttlSec: 30 });
  t.mock.timers.tick(20_000);
  assert.equal((await lookup.addresses('a.example')).ttlSec, 10);
  t.mock.timers.tick(10_001);
  assert.equal((await lookup.addresses('a.example')).ttlSec, 30);
  assert.equal(asked.length, 2);
});

test('an address is open before it is answered, and an answer that cannot be opened is a failure', async (t) => {
  const { lookup } = await upstream(t, () => [['203.0.113.1', 30]]);
  const order: string[] = [];
  const gate = { ...silent, open: async () => void order.push('opened') };
  const answer = await answerQuestion(question('a.example'), 'udp', lookup, gate);
  order.push('answered');
  assert.deepEqual(order, ['opened', 'answered']);
  assert.deepEqual(
    packet.decode(answer ?? assert.fail()).answers?.map((record) => 'data' in record && record.data),
    ['203.0.113.1'],
  );
  const failing = { ...silent, open: () => Promise.reject(new Error('nft said no')) };
  const failure = await answerQuestion(question('a.example'), 'udp', lookup, failing);
  assert.equal((packet.decode(failure ?? assert.fail()).flags ?? 0) & 15, 2);
});

test('types without records here are answered empty: HTTPS, SVCB and unknown ones', async (t) => {
  const { lookup, asked } = await upstream(t, () => []);
  for (const type of [28, 64, 65, 255, 4711]) {
    const answer = packet.decode(
      (await answerQuestion(question('a.example', type), 'udp', lookup, silent)) ?? assert.fail(),
    );
    assert.deepEqual([(answer.flags ?? 0) & 15, answer.answers?.length], [0, 0], String(type));
  }
  assert.deepEqual(asked, []);
});

test('whatever a guest sends gets an answer or none, and nothing throws', async (t) => {
  const { lookup } = await upstream(t, () => [['203.0.113.1', 30]]);
  const refusing = { ...silent, isAllowed: () => false };
  const real = question('a.example');
  await fc.assert(
    fc.asyncProperty(
      fc.uint8Array({ maxLength: 300 }),
      fc.nat(real.length - 1),
      fc.nat(255),
      async (bytes, at, value) => {
        await answerQuestion(Buffer.from(bytes), 'udp', lookup, refusing);
        const changed = Buffer.from(real);
        changed[at] = value;
        await answerQuestion(changed, 'udp', lookup, refusing);
        await answerQuestion(real.subarray(0, at), 'tcp', lookup, refusing);
      },
    ),
  );
});
