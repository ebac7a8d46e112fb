import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { Agent, request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { WebSocket } from 'ws';
import type { TestServer } from '../test/support/server.ts';
import type { GuestServer } from './guest-server.ts';
import { describeSeries, type Measure } from './measure.ts';
import { interleave, Series, timed } from './series.ts';

/** As many requests at once, each on a connection that is kept. */
const AT_ONCE = 16;
const RATE_FOR_MS = 3000;
const WEB_SOCKETS = 1000;
/** What opening leaves behind is collected by then. */
const SETTLE_MS = 10_000;

/** Edge and host proxy against the same server at its own address. */
export async function measureEdgeProxy(
  server: TestServer,
  guest: GuestServer,
  rounds: number,
  sizeMib: number,
): Promise<Measure[]> {
  const rate = (url: string, headers: Readonly<Record<string, string>>) => () => requestsPerSecond(url, headers);
  const bytes = (url: string, headers: Readonly<Record<string, string>>) => () => mibPerSecond(url, headers, sizeMib);
  const { directUrl, routing } = guest;
  const edgeUrl = server.sandboxUrl;
  // The first time is slow whoever asks: nothing of the way is compiled and cached yet.
  await rate(edgeUrl, routing)();
  await rate(directUrl, {})();
  const small = await interleave(rounds, rate(edgeUrl, routing), rate(directUrl, {}));
  await bytes(edgeUrl, routing)();
  await bytes(directUrl, {})();
  const large = await interleave(rounds, bytes(edgeUrl, routing), bytes(directUrl, {}));
  const sockets = await idleSocketsMib(server, guest, Math.min(rounds, 3));
  return [
    {
      title: 'Edge, small answers',
      ours: describeSeries(small.ours, '/s'),
      floor: describeSeries(small.floor, '/s'),
      judged: small.ours.median / small.floor.median,
      limit: { kind: 'at least', value: 0.7, unit: '×' },
      method: `${AT_ONCE} requests at once over kept connections, for ${RATE_FOR_MS / 1000} s, to a Node server in a sandbox: through edge and host proxy, against its own address.`,
    },
    {
      title: `Edge, answers of ${sizeMib} MiB`,
      ours: describeSeries(large.ours, 'MiB/s'),
      floor: describeSeries(large.floor, 'MiB/s'),
      judged: large.ours.median / large.floor.median,
      limit: { kind: 'at least', value: 0.9, unit: '×' },
      method: 'One answer of the same server, made in its memory.',
    },
    {
      title: `Edge, ${WEB_SOCKETS} idle WebSockets`,
      ours: describeSeries(sockets, 'MiB'),
      floor: undefined,
      judged: sockets.median,
      limit: { kind: 'at most', value: 60, unit: 'MiB' },
      method: `What \`VmRSS\` of the all-in-one server grows by ${SETTLE_MS / 1000} s after they were opened.`,
    },
  ];
}

async function requestsPerSecond(url: string, headers: Readonly<Record<string, string>>): Promise<number> {
  const agent = new Agent({ keepAlive: true, maxSockets: AT_ONCE });
  const begunMs = performance.now();
  let count = 0;
  try {
    await Promise.all(
      Array.from({ length: AT_ONCE }, async () => {
        while (performance.now() - begunMs < RATE_FOR_MS) {
          await get(url, headers, agent);
          count += 1;
        }
      }),
    );
    return (count / (performance.now() - begunMs)) * 1000;
  } finally {
    agent.destroy();
  }
}

async function mibPerSecond(url: string, headers: Readonly<Record<string, string>>, sizeMib: number): Promise<number> {
  const length = sizeMib * 2 ** 20;
  const elapsedMs = await timed(async () => {
    const got = await get(`${url}/${length}`, headers);
    if (got !== length) throw new Error(`${got} bytes came instead of ${length}`);
  });
  return sizeMib / (elapsedMs / 1000);
}

/** Answers how many bytes came. */
function get(url: string, headers: Readonly<Record<string, string>>, agent?: Agent): Promise<number> {
  return new Promise((resolve, reject) => {
    const outgoing = request(url, { headers, ...(agent === undefined ? {} : { agent }) }, (response) => {
      let bytes = 0;
      response.on('data', (piece: Buffer) => {
        bytes += piece.length;
      });
      response.once('end', () => {
        if (response.statusCode === 200) resolve(bytes);
        else reject(new Error(`answered with ${response.statusCode}`));
      });
      response.once('error', reject);
    });
    outgoing.once('error', reject);
    outgoing.end();
  });
}

async function idleSocketsMib(server: TestServer, { routing }: GuestServer, rounds: number): Promise<Series> {
  const grown = new Series();
  for (let round = 0; round < rounds; round++) {
    const before = await residentMib(server.pid);
    const sockets: WebSocket[] = [];
    try {
      while (sockets.length < WEB_SOCKETS) {
        const socket = new WebSocket(server.sandboxUrl.replace('http', 'ws'), { headers: routing });
        sockets.push(socket);
        // In small groups: the guest's queue of new connections is short.
        if (sockets.length % 20 === 0) await Promise.all(sockets.slice(-20).map((each) => opened(each)));
      }
      await sleep(SETTLE_MS);
      grown.add((await residentMib(server.pid)) - before);
    } finally {
      for (const socket of sockets) socket.terminate();
    }
    await sleep(SETTLE_MS / 2);
  }
  return grown;
}

async function opened(socket: WebSocket): Promise<void> {
  if (socket.readyState !== WebSocket.OPEN) await once(socket, 'open');
}

async function residentMib(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) / 1024;
}
