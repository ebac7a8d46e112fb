import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { text } from 'node:stream/consumers';
import { type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { createGuestClient, type GuestClient } from './guest-client.ts';
import { GuestError } from './guest-error.ts';
import { hostTimeUs } from './host-clock.ts';
import { startNativeAgent } from './testing/native-agent.ts';

/** Milliseconds that a question and its answer are under way. */
type Way = readonly [thereMs: number, backMs: number];

/** A guest whose clock is off and whose network is slow. Corrections below 20 ms it evens out later, as the real one. */
class SlowGuest {
  offsetMs: number;
  readonly corrections: number[] = [];
  questions = 0;
  /** Of the first correction, where that goes another way than questions. */
  correctionWay: Way | undefined;
  readonly #ways: readonly Way[];

  constructor(offsetMs: number, ...ways: readonly Way[]) {
    this.offsetMs = offsetMs;
    this.#ways = ways;
  }

  /** By the guest's clock. */
  nowNs(): string {
    return `${BigInt(Math.round(hostTimeUs() + this.offsetMs * 1000)) * 1000n}`;
  }

  async answer(body: string): Promise<string> {
    const offset: unknown = JSON.parse(body).offset_ns;
    const way = this.#ways[Math.min(this.questions, this.#ways.length - 1)] ?? [0, 0];
    const isFirstCorrection = offset !== undefined && this.corrections.length === 0;
    const [thereMs, backMs] = (isFirstCorrection ? this.correctionWay : undefined) ?? way;
    this.questions += 1;
    await delay(thereMs);
    if (typeof offset === 'number') {
      this.corrections.push(offset / 1e6);
      if (Math.abs(offset) >= 20e6) this.offsetMs += offset / 1e6;
    }
    const received_ns = this.nowNs();
    const sent_ns = this.nowNs();
    await delay(backMs);
    return JSON.stringify({ received_ns, sent_ns });
  }
}

async function connectTo(t: TestContext, answer: (body: string) => Promise<string>): Promise<GuestClient> {
  const server = createServer(async (request, response) => {
    assert.equal(`${request.method} ${request.url}`, 'POST /clock');
    response.end(await answer(await text(request)));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  const guest = createGuestClient({ address: '127.0.0.1', port: address.port, accessToken: undefined });
  t.after(() => {
    guest.close();
    server.closeAllConnections();
    server.close();
  });
  return guest;
}

const HOUR_MS = 3_600_000;

for (const [what, offsetMs] of [
  ['hours late', -30 * HOUR_MS],
  ['early', 5 * HOUR_MS],
  ['a little late', -70],
] as const)
  test(`a clock that is ${what} is right afterwards, where a round trip takes 60 ms`, async (t) => {
    const slow = new SlowGuest(offsetMs, [30, 30]);
    const { offsetMs: told, roundTripMs } = await (await connectTo(t, (body) => slow.answer(body))).syncClock();
    // The loop of this test's own process is part of the way.
    assert.ok(Math.abs(slow.offsetMs) < 15, `${slow.offsetMs} ms off`);
    assert.ok(Math.abs(told - slow.offsetMs) < 15, `${told} ms told of ${slow.offsetMs}`);
    assert.ok(roundTripMs >= 55, `${roundTripMs} ms`);
    assert.equal(slow.corrections.length, 1);
  });

test('a way there that takes much longer than the way back is wrong by half of the difference at most', async (t) => {
  const slow = new SlowGuest(-HOUR_MS, [58, 2]);
  await (await connectTo(t, (body) => slow.answer(body))).syncClock();
  assert.ok(Math.abs(slow.offsetMs) < 40, `${slow.offsetMs} ms off`);
});

test('the quickest of the answers counts: the first ones of a restored guest are slow', async (t) => {
  const slow = new SlowGuest(-HOUR_MS, [400, 0], [80, 0], [2, 2]);
  await (await connectTo(t, (body) => slow.answer(body))).syncClock();
  assert.ok(Math.abs(slow.offsetMs) < 15, `${slow.offsetMs} ms off`);
});

test('a correction whose answer is held up is not undone', async (t) => {
  const slow = new SlowGuest(-HOUR_MS, [2, 2]);
  slow.correctionWay = [1, 300];
  const { offsetMs } = await (await connectTo(t, (body) => slow.answer(body))).syncClock();
  assert.ok(Math.abs(slow.offsetMs) < 15, `${slow.offsetMs} ms off`);
  assert.ok(Math.abs(offsetMs) < 20, `${offsetMs} ms told`);
  assert.equal(slow.corrections.length, 1);
});

test('a small difference is left to the guest to even out', async (t) => {
  const slow = new SlowGuest(12, [0, 0]);
  await (await connectTo(t, (body) => slow.answer(body))).syncClock();
  assert.equal(slow.corrections.length, 1);
  const [correction = 0] = slow.corrections;
  assert.ok(Math.abs(correction + 12) < 10, `${correction} ms`);
});

test('the real guest agent answers, and keeps a clock that is not its own', async (t) => {
  const { guest } = await startNativeAgent(t);
  await guest.init({});
  const before = Date.now() - performance.now();
  const { offsetMs, roundTripMs } = await guest.syncClock();
  assert.ok(Math.abs(offsetMs) <= roundTripMs + 5, `${offsetMs} ms off, ${roundTripMs} ms round trip`);
  assert.ok(Math.abs(Date.now() - performance.now() - before) < 10);
});

test('a guest that tells times which cannot be is an error', async (t) => {
  for (const answer of ['{}', '{"received_ns":1,"sent_ns":2}', '{"received_ns":"5000","sent_ns":"1000"}']) {
    const guest = await connectTo(t, async () => answer);
    await assert.rejects(guest.syncClock(), (error) => error instanceof GuestError && error.kind === 'protocol');
  }
});
