import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { NestboxPaths } from '@nestbox/kit';
import { Sandbox } from 'e2b';
import { vmProcesses } from '../test/support/leftovers.ts';
import type { TestServer } from '../test/support/server.ts';
import { describeSeries, type Measure } from './measure.ts';
import { Series } from './series.ts';

const SIBLINGS = 8;
const IDLE_MS = 5000;

/** What a restored sandbox that does nothing costs the host, alone and among others of its template. */
export async function measureFootprint(server: TestServer, paths: NestboxPaths): Promise<Measure[]> {
  const sandboxes: Sandbox[] = [];
  const create = async () => {
    sandboxes.push(await Sandbox.create({ ...server.connection, timeoutMs: 600_000 }));
  };
  try {
    await create();
    await sleep(IDLE_MS);
    const alone = await pssOfVms(paths);
    while (sandboxes.length < SIBLINGS) await create();
    await sleep(IDLE_MS);
    const together = await pssOfVms(paths);
    return [
      {
        title: 'Memory of an idle restored sandbox, alone on the host',
        ours: describeSeries(alone, 'MB'),
        floor: undefined,
        judged: alone.median,
        limit: { unit: 'MB' },
        method: `PSS of its QEMU and the jail around it after ${IDLE_MS / 1000} s; QEMU's own code and the pages of the template's memory image count in full, since nobody else has them.`,
      },
      {
        title: `Memory of an idle restored sandbox, one of ${SIBLINGS}`,
        ours: describeSeries(together, 'MB'),
        floor: undefined,
        judged: together.median,
        limit: { kind: 'at most', value: 60, unit: 'MB' },
        method: 'The same with others of the same template beside it, who share those.',
      },
    ];
  } finally {
    for (const sandbox of sandboxes) await sandbox.kill();
  }
}

async function pssOfVms(paths: NestboxPaths): Promise<Series> {
  const series = new Series();
  for (const { pid, commandLine } of vmProcesses(paths)) {
    // The jail's bubblewrap, which stays as QEMU's parent, is counted with it.
    if (commandLine.startsWith('bwrap ')) continue;
    const status = await readFile(`/proc/${pid}/status`, 'utf8');
    series.add((await pss(pid)) + (await pss(Number(/^PPid:\t(\d+)$/m.exec(status)?.[1]))));
  }
  return series;
}

async function pss(pid: number): Promise<number> {
  const rollup = await readFile(`/proc/${pid}/smaps_rollup`, 'utf8');
  return (Number(/^Pss:\s+(\d+) kB$/m.exec(rollup)?.[1]) * 1024) / 1e6;
}
