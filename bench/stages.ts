import { Sandbox } from 'e2b';
import { z } from 'zod';
import type { TestServer } from '../test/support/server.ts';
import { quantile } from './series.ts';

export interface StageFigure {
  readonly name: string;
  readonly startMs: number;
  readonly durationMs: number;
}

const stage = z.object({ name: z.string(), startMs: z.number(), durationMs: z.number() });
const trace = z.object({ operations: z.array(z.object({ name: z.string(), stages: z.array(stage) })) });

/** A sandbox's operations as its host's own trace tells them, newest first. */
export async function readTrace({ apiUrl, apiKey }: TestServer, sandboxId: string) {
  const response = await fetch(`${apiUrl}/sandboxes/${sandboxId}/trace`, { headers: { 'X-API-Key': apiKey } });
  return trace.parse(await response.json()).operations;
}

/** Where the time of a create goes: medians of so many. */
export async function measureStages(server: TestServer, rounds: number): Promise<StageFigure[]> {
  const found = new Map<string, { startMs: number[]; durationMs: number[] }>();
  for (let round = 0; round < rounds; round++) {
    const sandbox = await Sandbox.create({ ...server.connection, timeoutMs: 120_000 });
    const operations = await readTrace(server, sandbox.sandboxId);
    await sandbox.kill();
    for (const { name, startMs, durationMs } of operations.find((each) => each.name === 'create')?.stages ?? []) {
      const figures = found.get(name) ?? { startMs: [], durationMs: [] };
      found.set(name, figures);
      figures.startMs.push(startMs);
      figures.durationMs.push(durationMs);
    }
  }
  return [...found]
    .map(([name, { startMs, durationMs }]) => ({
      name,
      startMs: quantile(startMs, 0.5),
      durationMs: quantile(durationMs, 0.5),
    }))
    .sort((a, b) => a.startMs - b.startMs);
}
