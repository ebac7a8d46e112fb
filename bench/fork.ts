import assert from 'node:assert/strict';
import { availableParallelism } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { Sandbox } from 'e2b';
import type { TestServer } from '../test/support/server.ts';
import { type BareSnapshot, bareRestore } from './bare-restore.ts';
import { describeSeries, type Measure } from './measure.ts';
import { Series, timed } from './series.ts';
import { readTrace } from './stages.ts';

const COPIES = 10;
const IDLE_MS = 1000;

/** How long the source of a fork stands still, as the host's own trace tells, by the size of its memory. */
export async function measureStandstill(
  server: TestServer,
  templates: readonly { readonly templateId: string; readonly memoryMib: number }[],
  rounds: number,
): Promise<Measure[]> {
  const measures: Measure[] = [];
  for (const { templateId, memoryMib } of templates) {
    const sandbox = await Sandbox.create(templateId, { ...server.connection, timeoutMs: 600_000 });
    const frozen = new Series();
    try {
      for (let round = 0; round < rounds; round++) {
        await sleep(IDLE_MS);
        await killAll(await sandbox.fork({ count: 1, timeoutMs: 60_000 }));
        frozen.add(await lastFrozenMs(server, sandbox.sandboxId));
      }
    } finally {
      await sandbox.kill();
    }
    measures.push({
      title: `Fork: the source stands still, ${memoryMib} MiB of memory`,
      ours: describeSeries(frozen, 'ms', 1),
      floor: undefined,
      judged: frozen.median,
      limit: { kind: 'at most', value: 60, unit: 'ms' },
      method: `From the stop of the source's vCPUs until they run again (\`nestbox trace\`, stage "frozen"), a fork of one copy of an idle sandbox with ${memoryMib} MiB.`,
    });
  }
  return measures;
}

/** Many copies at once, until each has answered its guest agent's settings. */
export async function measureManyCopies(server: TestServer, snapshot: BareSnapshot, rounds: number): Promise<Measure> {
  const ours = new Series();
  const floor = new Series();
  const sandbox = await Sandbox.create({ ...server.connection, timeoutMs: 600_000 });
  try {
    for (let round = 0; round < rounds; round++) {
      let copies: (Sandbox | Error)[] = [];
      ours.add(
        await timed(async () => {
          copies = await sandbox.fork({ count: COPIES, timeoutMs: 120_000 });
        }),
      );
      await killAll(copies);
      const bareMs = await timed(async () => {
        await using _vm = await bareRestore(snapshot);
      });
      floor.add((bareMs * COPIES) / availableParallelism());
    }
  } finally {
    await sandbox.kill();
  }
  return {
    title: `Fork of ${COPIES} copies, all answering`,
    ours: describeSeries(ours, 'ms'),
    floor: describeSeries(floor, 'ms'),
    judged: ours.median / floor.median,
    limit: { kind: 'at most', value: 3, unit: '×' },
    method: `\`sandbox.fork({ count: ${COPIES} })\` until it returns, against a bare restore's time multiplied by ${COPIES} and divided by the number of cores.`,
  };
}

async function killAll(copies: readonly (Sandbox | Error)[]): Promise<void> {
  for (const copy of copies) {
    assert.ok(copy instanceof Sandbox, String(copy));
    await copy.kill();
  }
}

async function lastFrozenMs(server: TestServer, sandboxId: string): Promise<number> {
  const operations = await readTrace(server, sandboxId);
  const stage = operations.find(({ name }) => name === 'fork')?.stages.find(({ name }) => name === 'frozen');
  assert.ok(stage);
  return stage.durationMs;
}
