import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { MAX_QMP_LINE_LENGTH, type QmpMessage, QmpMessageReader, QmpProtocolError } from './qmp-messages.ts';

const GREETING =
  '{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": ""}, "capabilities": ["oob"]}}';

function readAll(bytes: Buffer, cuts: readonly number[] = []): QmpMessage[] {
  const reader = new QmpMessageReader();
  const places = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).toSorted((a, b) => a - b), bytes.length];
  return places.slice(1).flatMap((end, index) => reader.push(bytes.subarray(places[index], end)));
}

test('each kind of message is told', () => {
  const lines = [
    GREETING,
    '{"return": {}, "id": 1}',
    '{"id": 2, "error": {"class": "GenericError", "desc": "No"}}',
    '{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP"}',
    '{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}, "timestamp": {}}',
    '{"return": null}',
  ];
  assert.deepEqual(readAll(Buffer.from(`${lines.join('\r\n')}\r\n`)), [
    { kind: 'greeting', version: '7.2.22' },
    { kind: 'return', id: 1, value: {} },
    { kind: 'error', id: 2, errorClass: 'GenericError', description: 'No' },
    { kind: 'event', name: 'STOP', data: {} },
    { kind: 'event', name: 'SHUTDOWN', data: { guest: true, reason: 'guest-reset' } },
    { kind: 'return', id: undefined, value: null },
  ]);
});

test('the messages are the same however the stream is cut, within characters too', () => {
  const message = fc.record({ return: fc.jsonValue(), id: fc.nat() });
  fc.assert(
    fc.property(fc.array(message, { maxLength: 5 }), fc.array(fc.nat(), { maxLength: 20 }), (messages, cuts) => {
      const bytes = Buffer.from(messages.map((value) => `${JSON.stringify(value)}\n`).join(''));
      const expected = messages.map(({ id, return: value }) => ({
        kind: 'return',
        id,
        value: JSON.parse(JSON.stringify(value)),
      }));
      assert.deepEqual(readAll(bytes, cuts), expected);
    }),
  );
});

test('what is no QMP is refused with a QmpProtocolError and nothing else', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json(), fc.string({ unit: 'binary' })), (text) => {
      try {
        readAll(Buffer.from(`${text}\n`));
      } catch (error) {
        assert.ok(error instanceof QmpProtocolError);
      }
    }),
  );
  for (const text of ['{}', '[]', '1', 'null', '{"id": 1}', '{"event": 1}', 'QEMU', '{"error": "x"}', '{"QMP": {}}']) {
    assert.throws(() => readAll(Buffer.from(`${text}\n`)), QmpProtocolError, text);
  }
});

test('an unfinished line waits, and one without end is refused', () => {
  const reader = new QmpMessageReader();
  assert.deepEqual(reader.push(Buffer.from('{"return"')), []);
  assert.deepEqual(reader.push(Buffer.from(': 1, "id": 7}')), []);
  assert.deepEqual(reader.push(Buffer.from('\n')), [{ kind: 'return', id: 7, value: 1 }]);
  const piece = Buffer.alloc(MAX_QMP_LINE_LENGTH / 4, 'x');
  assert.throws(() => {
    for (let pieces = 0; pieces < 5; pieces++) reader.push(piece);
  }, QmpProtocolError);
});
