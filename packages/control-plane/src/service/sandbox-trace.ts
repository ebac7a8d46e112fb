import type { SandboxTrace } from '@nestbox/contract/http';
import { requireKnown } from './sandbox-lookup.ts';
import type { ScopedContext } from './team-context.ts';

/** Where the time of a sandbox's latest operations went, newest first. Throws `sandbox_not_found` and errors of the host. */
export async function getSandboxTrace(
  context: ScopedContext,
  rawId: string,
  signal?: AbortSignal,
): Promise<SandboxTrace> {
  const record = await requireKnown(context, rawId);
  const { operations } = await context.hosts.get(record.hostId).getTrace(record.id, signal);
  return {
    operations: operations.map(({ name, startedAtMs, stages, error }) => ({
      name,
      startedAt: new Date(Number(startedAtMs)).toISOString(),
      stages: stages.map((stage) => ({ name: stage.name, startMs: stage.startMs, durationMs: stage.durationMs })),
      ...(error === '' ? {} : { error }),
    })),
  };
}
