import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { type TestContext, test } from 'node:test';
import { Activity } from '../activity.ts';
import type { AgentContext } from '../context.ts';
import { sendRestError } from '../rest.ts';
import { AgentState } from '../state.ts';
import type { Clock } from '../system/clock.ts';
import { clockRoute } from './clock-route.ts';
import { HostAddresses } from './host-addresses.ts';

const MS = 1_000_000;
const HOST = '127.0.0.2';

/** A clock that moves by a millisecond with each look. */
class SteppedClock implements Clock {
  timeNs = 1_700_000_000_000_000_000n;
  readonly slews: bigint[] = [];
  nowNs(): bigint {
    this.timeNs += BigInt(MS);
    return this.timeNs;
  }
  set(unixNs: bigint): void {
    this.timeNs = unixNs;
  }
  step(offsetNs: bigint): void {
    this.timeNs += offsetNs;
  }
  slew(offsetNs: bigint): void {
    this.slews.push(offsetNs);
  }
}

async function start(t: TestContext, isInit: boolean) {
  const clock = new SteppedClock();
  const context: AgentContext = { state: new AgentState(), activity: new Activity(), runtimeDir: '/nowhere', isInit };
  const route = clockRoute(clock, new HostAddresses([{ address: HOST, prefixLength: 32 }]));
  const server = createServer((incoming, response) => {
    route(incoming, response, new URL('http://localhost/clock'), context).catch((error: unknown) =>
      sendRestError(response, error),
    );
  });
  server.listen(0, '0.0.0.0');
  await once(server, 'listening');
  t.after(() => server.close());
  const { port } = server.address() as AddressInfo;
  const ask = async (body: string, localAddress = HOST) => {
    const outgoing = request({ host: '127.0.0.1', port, localAddress, method: 'POST', agent: false });
    outgoing.end(body);
    const [response] = await once(outgoing, 'response');
    return { status: Number(response.statusCode), json: JSON.parse(await text(response)) };
  };
  return { clock, ask };
}

test('the guest tells when a question came and when its answer went', async (t) => {
  const { clock, ask } = await start(t, true);
  const begun = clock.timeNs;
  const { status, json } = await ask('');
  assert.equal(status, 200);
  assert.deepEqual(json, { received_ns: `${begun + BigInt(MS)}`, sent_ns: `${begun + BigInt(2 * MS)}` });
});

test('a large difference is corrected at once, and both times are by the corrected clock', async (t) => {
  const { clock, ask } = await start(t, true);
  for (const offset of [-7_200_000 * MS, 20 * MS, -20 * MS]) {
    const begun = clock.timeNs;
    const { json } = await ask(JSON.stringify({ offset_ns: offset }));
    assert.equal(BigInt(json.received_ns), begun + BigInt(MS) + BigInt(offset));
    assert.equal(BigInt(json.sent_ns), begun + BigInt(2 * MS) + BigInt(offset));
  }
  assert.deepEqual(clock.slews, []);
});

test('a small difference is corrected little by little, so that time never runs backwards', async (t) => {
  const { clock, ask } = await start(t, true);
  const begun = clock.timeNs;
  const { json } = await ask(JSON.stringify({ offset_ns: -19_999_999 }));
  assert.equal(BigInt(json.received_ns), begun + BigInt(MS));
  assert.deepEqual(clock.slews, [-19_999_999n]);
});

test('nobody but the host sets the clock', async (t) => {
  const { clock, ask } = await start(t, true);
  const begun = clock.timeNs;
  assert.equal((await ask(JSON.stringify({ offset_ns: 3600_000 * MS }), '127.0.0.1')).status, 403);
  assert.ok(clock.timeNs - begun <= 2n * BigInt(MS));
});

test('a machine that is not the agent’s own keeps its clock', async (t) => {
  const { clock, ask } = await start(t, false);
  const begun = clock.timeNs;
  assert.equal((await ask(JSON.stringify({ offset_ns: 3600_000 * MS }), '127.0.0.1')).status, 200);
  assert.equal(clock.timeNs, begun + BigInt(2 * MS));
});

test('what is no whole number of nanoseconds is refused with the reason', async (t) => {
  const { ask } = await start(t, true);
  for (const body of ['{', '[]', '{"offset_ns":1.5}', '{"offset_ns":"1"}', '{"offset_ns":1e300}']) {
    const { status, json } = await ask(body);
    assert.equal(status, 400, body);
    assert.match(json.message, /JSON|offset_ns/);
  }
  assert.equal((await ask(' '.repeat(5000))).status, 413);
  assert.equal((await ask('{"offset_ns":null}')).status, 200);
});
