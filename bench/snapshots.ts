import { setTimeout as sleep } from 'node:timers/promises';
import { BASE_TEMPLATE_ID } from '@nestbox/host-agent/image';
import type { NestboxPaths } from '@nestbox/kit';
import { z } from 'zod';
import { startServer, type TestServer } from '../test/support/server.ts';
import { addTemplate, makeStateFolder } from '../test/support/state-folder.ts';
import { measureManyCopies, measureStandstill } from './fork.ts';
import type { Machine } from './machine.ts';
import type { Measure } from './measure.ts';
import { measureFootprint } from './memory-footprint.ts';
import { measurePauseAndResume } from './pause-resume.ts';
import { measureRestore, measureWarmCreate } from './restore.ts';
import { openSnapshotStage } from './snapshot-stage.ts';
import { measureStages, type StageFigure } from './stages.ts';

const WARM = 2;
const MEMORY_SIZES_MIB = [256, 1024, 4096] as const;
const DEADLINE_MS = 300_000;

/** Everything that a memory snapshot is good for, against the same thing done with the least script around QEMU. */
export async function measureSnapshots(
  paths: NestboxPaths,
  machine: Machine,
  rounds: number,
): Promise<{ measures: Measure[]; stages: StageFigure[] }> {
  const measures: Measure[] = [];
  const note = (...found: Measure[]) => {
    measures.push(...found);
    for (const { title, ours, floor } of found)
      console.error(`  … ${title}: ${ours}${floor ? `, floor ${floor}` : ''}`);
  };
  let stages: StageFigure[];
  {
    await using server = await startServer(paths);
    await using stage = await openSnapshotStage(paths, BASE_TEMPLATE_ID, machine);
    note(...(await measureRestore(server, stage.snapshot, rounds)));
    note(...(await measurePauseAndResume(server, stage.snapshot, rounds)));
    note(await measureManyCopies(server, stage.snapshot, Math.min(rounds, 5)));
    note(...(await measureFootprint(server, paths)));
    stages = await measureStages(server, rounds);
  }
  {
    await using server = await startServer(paths, ['--warm', `base=${WARM}`]);
    note(await measureWarmCreate(server, rounds * 3, () => untilWarm(server)));
  }
  note(...(await measureSizes(rounds)));
  return { measures, stages };
}

/** Templates of other sizes, whose snapshots their server makes when it starts. */
async function measureSizes(rounds: number): Promise<Measure[]> {
  await using paths = await makeStateFolder();
  const templates: { templateId: string; memoryMib: number }[] = [];
  for (const memoryMib of MEMORY_SIZES_MIB) {
    if (memoryMib === 1024) templates.push({ templateId: 'base', memoryMib });
    else
      templates.push({
        templateId: await addTemplate(paths, `size${memoryMib}`, { vcpuCount: 2, memoryMib }),
        memoryMib,
      });
  }
  await using server = await startServer(paths);
  return await measureStandstill(server, templates, rounds);
}

const diskUsage = z.object({ hosts: z.array(z.object({ items: z.array(z.object({ kind: z.string() })) })) });

/** A VM that waits has its folder before it is ready; it is ready a moment after its last command. */
async function untilWarm({ apiUrl, apiKey }: TestServer): Promise<void> {
  for (const endsAt = performance.now() + DEADLINE_MS; performance.now() < endsAt; ) {
    const response = await fetch(`${apiUrl}/disk`, { headers: { 'X-API-Key': apiKey } });
    const [host] = diskUsage.parse(await response.json()).hosts;
    if ((host?.items.filter(({ kind }) => kind === 'warm').length ?? 0) >= WARM) {
      await sleep(3000);
      return;
    }
    await sleep(200);
  }
  throw new Error('no VM was made ahead');
}
