import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { describe, type TestContext, test } from 'node:test';
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { type ProcessEventSchema, StartResponseSchema } from '@nestbox/contract/process';
import fc from 'fast-check';
import { createGuestClient } from './guest-client.ts';
import { GuestError } from './guest-error.ts';
import { EVENT_BUFFER, type GuestProcessEvent } from './process-events.ts';
import { ExecInterruptedError } from './processes.ts';

/** What a guest sends: an event that means something, or one of the things that a client must step over. */
type Sent =
  | { readonly kind: 'start'; readonly pid: number }
  | { readonly kind: 'stdout' | 'stderr' | 'pty'; readonly data: Uint8Array }
  | { readonly kind: 'end'; readonly exitCode: number }
  | { readonly kind: 'keepalive' | 'no-event' | 'no-output' | 'unknown-variant' };

const noise = fc.constantFrom<Sent>(
  { kind: 'keepalive' },
  { kind: 'no-event' },
  { kind: 'no-output' },
  { kind: 'unknown-variant' },
);
const output = fc.record({
  kind: fc.constantFrom('stdout' as const, 'stderr' as const, 'pty' as const),
  data: fc.uint8Array({ maxLength: 300 }),
});

function encode(sent: Sent): Uint8Array {
  switch (sent.kind) {
    case 'start':
      return startResponse({ case: 'start', value: { pid: sent.pid } });
    case 'end':
      return startResponse({ case: 'end', value: { exitCode: sent.exitCode, exited: true, status: '' } });
    case 'keepalive':
      return startResponse({ case: 'keepalive', value: {} });
    case 'no-output':
      return startResponse({ case: 'data', value: {} });
    case 'no-event':
      return toBinary(StartResponseSchema, create(StartResponseSchema, {}));
    case 'unknown-variant':
      // Field 1 (event), in it field 15 (none that this version knows), both with a length before them.
      return Uint8Array.from([0x0a, 0x03, 0x7a, 0x01, 0x00]);
    default:
      return startResponse({ case: 'data', value: { output: { case: sent.kind, value: sent.data } } });
  }
}

type StartEvent = NonNullable<MessageInitShape<typeof ProcessEventSchema>['event']>;

function startResponse(event: StartEvent): Uint8Array {
  return toBinary(StartResponseSchema, create(StartResponseSchema, { event: { event } }));
}

function envelope(flags: number, payload: Uint8Array): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt8(flags, 0);
  head.writeUInt32BE(payload.length, 1);
  return Buffer.concat([head, payload]);
}

const END_OF_STREAM = envelope(2, Buffer.from('{}'));

/** A guest agent whose streams are the given bytes, in the given pieces. Without a tail the connection is cut. */
async function startGuest(
  t: TestContext,
  pieces: () => { bytes: Buffer[]; cut?: boolean },
): Promise<Server & { port: number }> {
  const server = createServer(async (request, response) => {
    request.resume();
    response.writeHead(200, { 'content-type': 'application/connect+proto' });
    const { bytes, cut } = pieces();
    for (const piece of bytes) {
      response.write(piece);
      await new Promise((resolve) => setImmediate(resolve));
    }
    if (cut === true) response.destroy();
    else response.end();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  return Object.assign(server, { port: address.port });
}

function split(bytes: Buffer, cuts: readonly number[]): Buffer[] {
  const pieces: Buffer[] = [];
  let from = 0;
  for (const cut of [...cuts].map((at) => at % (bytes.length + 1)).sort((a, b) => a - b)) {
    if (cut > from) pieces.push(bytes.subarray(from, cut));
    from = Math.max(from, cut);
  }
  pieces.push(bytes.subarray(from));
  return pieces;
}

function meaning(sent: readonly Sent[]): GuestProcessEvent[] {
  return sent.flatMap((event): GuestProcessEvent[] => {
    switch (event.kind) {
      case 'start':
        return [event];
      case 'end':
        return [{ kind: 'end', exitCode: event.exitCode, error: undefined }];
      case 'stdout':
      case 'stderr':
      case 'pty':
        return [event];
      default:
        return [];
    }
  });
}

describe('the events of a process', () => {
  test('are the same however the stream is cut into pieces, and whatever stands between them', async (t) => {
    let answer: Buffer[] = [];
    const server = await startGuest(t, () => ({ bytes: answer }));
    const guest = createGuestClient({ address: '127.0.0.1', port: server.port, accessToken: undefined });
    t.after(() => guest.close());
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 2 ** 31 }),
        fc.array(fc.oneof(output, output, noise), { maxLength: 40 }),
        fc.integer({ min: -1, max: 255 }),
        fc.array(fc.nat(20_000), { maxLength: 25 }),
        async (pid, middle, exitCode, cuts) => {
          const sent: Sent[] = [{ kind: 'start', pid }, ...middle, { kind: 'end', exitCode }];
          answer = split(Buffer.concat([...sent.map((event) => envelope(0, encode(event))), END_OF_STREAM]), cuts);
          const received: GuestProcessEvent[] = [];
          for await (const event of guest.execStream({ cmd: 'x' }))
            received.push('data' in event ? { ...event, data: Uint8Array.from(event.data) } : event);
          assert.deepEqual(
            received,
            meaning(sent).map((event) => ('data' in event ? { ...event, data: Uint8Array.from(event.data) } : event)),
          );
        },
      ),
      { numRuns: 60 },
    );
  });

  test('that end before the process does are an error which carries what had arrived', async (t) => {
    const begin = [
      envelope(0, encode({ kind: 'start', pid: 7 })),
      envelope(0, encode({ kind: 'stdout', data: Buffer.from('out') })),
    ];
    const error = envelope(2, Buffer.from('{"error":{"code":"internal","message":"broken inside"}}'));
    const answers = [
      { bytes: [...begin, END_OF_STREAM] },
      {
        bytes: [...begin, envelope(0, encode({ kind: 'stderr', data: Buffer.from('err') })).subarray(0, 6)],
        cut: true,
      },
      { bytes: [...begin, error] },
      { bytes: [...begin, Buffer.from([0, 0xff, 0xff, 0xff, 0xff])], cut: true },
      { bytes: [...begin, envelope(0, Buffer.from([0xff, 0xff, 0xff]))] },
    ];
    const kinds: string[] = [];
    let next = 0;
    const server = await startGuest(t, () => answers[next++] ?? { bytes: [] });
    const guest = createGuestClient({ address: '127.0.0.1', port: server.port, accessToken: undefined });
    t.after(() => guest.close());
    while (next < answers.length)
      await assert.rejects(guest.exec({ cmd: 'x' }), (thrown: unknown) => {
        assert.ok(thrown instanceof ExecInterruptedError);
        assert.equal(thrown.stdout.toString(), 'out');
        kinds.push(thrown.kind);
        return true;
      });
    assert.deepEqual(kinds, ['protocol', 'unreachable', 'rejected', 'rejected', 'rejected']);
  });

  test('are read ahead so far and no further when nobody takes them', async (t) => {
    const chunk = Buffer.alloc(64 * 1024, 'x');
    const total = EVENT_BUFFER * 8;
    let written = 0;
    const { promise: stuck, resolve: isStuck } = Promise.withResolvers<void>();
    const server = createServer(async (request, response) => {
      request.resume();
      response.writeHead(200, { 'content-type': 'application/connect+proto' });
      response.write(envelope(0, encode({ kind: 'start', pid: 1 })));
      for (; written < total; written++) {
        if (response.write(envelope(0, encode({ kind: 'stdout', data: chunk })))) continue;
        const timer = setTimeout(isStuck, 300);
        await once(response, 'drain');
        clearTimeout(timer);
      }
      response.write(envelope(0, encode({ kind: 'end', exitCode: 0 })));
      response.end(END_OF_STREAM);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.after(() => {
      server.closeAllConnections();
      server.close();
    });
    const address = server.address();
    assert.ok(address !== null && typeof address === 'object');
    const guest = createGuestClient({ address: '127.0.0.1', port: address.port, accessToken: undefined });
    t.after(() => guest.close());
    const events = guest.execStream({ cmd: 'x' });
    await events.next();
    await stuck;
    assert.ok(written < total, 'the guest had to wait');
    let bytes = 0;
    for await (const event of events) if (event.kind === 'stdout') bytes += event.data.length;
    assert.equal(bytes, total * chunk.length);
  });

  test('stop when the caller leaves the loop or aborts, and the guest sees its stream closed', async (t) => {
    const closed: Promise<unknown>[] = [];
    const server = createServer((request, response) => {
      request.resume();
      closed.push(once(response, 'close'));
      response.writeHead(200, { 'content-type': 'application/connect+proto' });
      response.write(envelope(0, encode({ kind: 'start', pid: 1 })));
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.after(() => server.close());
    const address = server.address();
    assert.ok(address !== null && typeof address === 'object');
    const guest = createGuestClient({ address: '127.0.0.1', port: address.port, accessToken: undefined });
    t.after(() => guest.close());

    for await (const event of guest.execStream({ cmd: 'x' })) {
      assert.equal(event.kind, 'start');
      break;
    }
    await closed[0];

    const caller = new AbortController();
    const events = guest.connectToProcess(1, caller.signal);
    await events.next();
    const next = events.next();
    caller.abort();
    await assert.rejects(next, (error: unknown) => error instanceof GuestError && error.kind === 'aborted');
    await closed[1];
  });
});
