import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { NestboxPaths } from '@nestbox/kit';
import { startServer } from '../test/support/server.ts';
import { describeSeries, type Measure } from './measure.ts';
import { Series } from './series.ts';

/** After this the start-up's garbage is collected and pooled slots are made. */
const SETTLE_MS = 10_000;

export async function measureServer(paths: NestboxPaths, rounds: number): Promise<Measure[]> {
  const startMs = new Series();
  const residentMib = new Series();
  for (let round = 0; round < rounds; round++) {
    const begunMs = performance.now();
    await using server = await startServer(paths);
    startMs.add(performance.now() - begunMs);
    await sleep(SETTLE_MS);
    residentMib.add(await residentMemoryMib(server.pid));
  }
  return [
    {
      title: 'Start to ready',
      ours: describeSeries(startMs, 'ms'),
      floor: undefined,
      judged: startMs.median / 1000,
      limit: { kind: 'at most', value: 1.5, unit: 's' },
      method: 'From the start of the process `nestbox up --json` to its line on standard output, everything prepared.',
    },
    {
      title: 'Resident memory, idle',
      ours: describeSeries(residentMib, 'MiB'),
      floor: undefined,
      judged: residentMib.median,
      limit: { kind: 'at most', value: 150, unit: 'MiB' },
      method: `\`VmRSS\` of the all-in-one server ${SETTLE_MS / 1000} s after it was ready, without sandboxes.`,
    },
  ];
}

async function residentMemoryMib(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) / 1024;
}
