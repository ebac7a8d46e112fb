import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { Agent, get } from 'node:http';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import type { Measure } from './measure.ts';

const ROWS = 1000;
const CONNECTIONS = 16;
const WARM_UP = 500;
const REQUESTS = 3000;
const BAR_PER_SECOND = 2000;
/** Half of what the bar asks for, in requests a second. */
const STEADY_RATE = BAR_PER_SECOND / 2;
/** Clock ticks a second in /proc; the same on every Linux that Node runs on. Source: sysconf(_SC_CLK_TCK). */
const TICKS_PER_SECOND = 100;

const ready = z.object({ apiUrl: z.url(), apiKey: z.string(), sandboxId: z.string() });

/** How much of a core a request of the control API costs, and how long it takes at a steady rate. */
export async function measureApi(): Promise<Measure[]> {
  const server = spawn(process.execPath, [join(import.meta.dirname, 'api-server.ts'), String(ROWS)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS });
  try {
    const { apiUrl, apiKey, sandboxId } = await firstLine(server);
    const ask = (path: string) => request(`${apiUrl}${path}`, apiKey, agent);
    const measures: Measure[] = [];
    for (const [title, path] of [
      [`Requests a second and core, list of ${ROWS} sandboxes`, '/v2/sandboxes'],
      ['Requests a second and core, one sandbox', `/sandboxes/${sandboxId}`],
    ] as const) {
      await flood(WARM_UP, () => ask(path));
      const before = await cpuSeconds(server);
      await flood(REQUESTS, () => ask(path));
      const perSecond = REQUESTS / ((await cpuSeconds(server)) - before);
      const p99Ms = await steady(() => ask(path));
      measures.push(
        {
          title,
          ours: `${Math.round(perSecond)} /s`,
          floor: undefined,
          judged: perSecond,
          limit: { kind: 'at least', value: BAR_PER_SECOND, unit: '/s' },
          method: `${REQUESTS} of \`GET ${path.replace(sandboxId, '{id}')}\` over ${CONNECTIONS} connections, by the processor time that the server took; its host is a stand-in without VMs.`,
        },
        {
          title: `${title}: p99 at ${STEADY_RATE} /s`,
          ours: `${p99Ms.toFixed(1)} ms`,
          floor: undefined,
          judged: p99Ms,
          limit: { kind: 'at most', value: 20, unit: 'ms' },
          method: `The same at ${STEADY_RATE} requests a second, each begun at its time whatever became of the others.`,
        },
      );
    }
    return measures;
  } finally {
    agent.destroy();
    const ended = once(server, 'exit');
    server.kill('SIGTERM');
    await ended;
  }
}

async function firstLine(child: ChildProcess): Promise<z.infer<typeof ready>> {
  if (child.stdout !== null)
    for await (const line of createInterface({ input: child.stdout })) return ready.parse(JSON.parse(line));
  throw new Error('the server of the measurement did not start');
}

function request(url: string, apiKey: string, agent: Agent): Promise<void> {
  return new Promise((resolve, reject) => {
    get(url, { agent, headers: { 'X-API-Key': apiKey } }, (response) => {
      response.resume();
      response.once('end', () =>
        response.statusCode === 200 ? resolve() : reject(new Error(`${url} answered ${response.statusCode}`)),
      );
    }).once('error', reject);
  });
}

async function flood(count: number, ask: () => Promise<void>): Promise<void> {
  let left = count;
  await Promise.all(
    Array.from({ length: CONNECTIONS }, async () => {
      while (left-- > 0) await ask();
    }),
  );
}

/** The 99th percentile in milliseconds. A request that waits for a free connection waits all the same. */
async function steady(ask: () => Promise<void>): Promise<number> {
  const begunMs = performance.now();
  const took = await Promise.all(
    Array.from({ length: REQUESTS }, async (_, index) => {
      const dueMs = begunMs + (index * 1000) / STEADY_RATE;
      await delay(Math.max(0, dueMs - performance.now()));
      const startMs = performance.now();
      await ask();
      return performance.now() - startMs;
    }),
  );
  return took.toSorted((a, b) => a - b)[Math.floor(REQUESTS * 0.99)] ?? 0;
}

async function cpuSeconds({ pid }: ChildProcess): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  // The name before may hold blanks; utime and stime are the 12th and 13th behind it. Source: proc_pid_stat(5).
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}
