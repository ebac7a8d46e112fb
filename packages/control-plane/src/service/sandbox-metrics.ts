import { NestboxError, parseSandboxId } from '@nestbox/contract';
import type { GetSandboxMetricsResponse } from '@nestbox/contract/host';
import type { SandboxMetric } from '@nestbox/contract/http';
import { findSandbox } from '../store/sandbox-repository.ts';
import { requireRemembered } from './sandbox-lookup.ts';
import type { ScopedContext } from './team-context.ts';

/** Bounds in seconds since the Unix epoch, both inclusive. */
export interface MetricsRange {
  readonly start?: number | undefined;
  readonly end?: number | undefined;
}

/** Clients draw curves; more points than a screen has columns only cost. */
const MAX_POINTS = 1000;

/**
 * The samples that the host keeps, oldest first; also of a paused sandbox, and for a week of one that has ended. Throws
 * `sandbox_not_found` and errors of the host.
 */
export async function getSandboxMetrics(
  context: ScopedContext,
  rawId: string,
  { start = 0, end }: MetricsRange,
  signal?: AbortSignal,
): Promise<SandboxMetric[]> {
  if (end !== undefined && start > end)
    throw new NestboxError('invalid_request', 'The query parameter "start" must not be later than "end".');
  const { id, hostId } = await requireRemembered(context, rawId);
  const request = { sandboxId: id, startMs: toMs(start), endMs: toMs(end, 999), maxPoints: MAX_POINTS };
  return (await context.hosts.get(hostId).listMetrics(request, signal)).map(toMetric);
}

/** The latest sample by sandbox id. Sandboxes that do not run, or whose host cannot be asked now, are left out. */
export async function getMetricsOfSandboxes(
  context: ScopedContext,
  rawIds: readonly string[],
  signal?: AbortSignal,
): Promise<Record<string, SandboxMetric>> {
  const byHost = new Map<string, { readonly rawId: string; readonly id: string }[]>();
  for (const rawId of rawIds) {
    const id = parseSandboxId(rawId);
    const record = id === undefined ? undefined : await findSandbox(context.db, context.scope, id);
    if (record?.state !== 'running') continue;
    const known = byHost.get(record.hostId) ?? [];
    byHost.set(record.hostId, [...known, { rawId, id: record.id }]);
  }
  const answers = await Promise.all(
    [...byHost].map(async ([hostId, wanted]): Promise<[string, SandboxMetric][]> => {
      try {
        const ids = wanted.map(({ id }) => id);
        const samples = await context.hosts.get(hostId).latestMetrics(ids, signal);
        return wanted.flatMap(({ rawId, id }): [string, SandboxMetric][] => {
          const sample = samples[id];
          return sample === undefined ? [] : [[rawId, toMetric(sample)]];
        });
      } catch (error) {
        context.logger.debug({ err: error, hostId }, 'No metrics of the sandboxes of a host');
        return [];
      }
    }),
  );
  return Object.fromEntries(answers.flat());
}

/** A second that no clock will reach is as good as any later one. */
const LAST_SECOND = 9_000_000_000_000;

function toMs(second: number | undefined, plusMs = 0): bigint {
  return BigInt(Math.min(second ?? LAST_SECOND, LAST_SECOND)) * 1000n + BigInt(plusMs);
}

function toMetric(sample: GetSandboxMetricsResponse): SandboxMetric {
  const timestampMs = Number(sample.timestampMs);
  return {
    timestamp: new Date(timestampMs).toISOString(),
    timestampUnix: Math.floor(timestampMs / 1000),
    cpuCount: sample.cpuCount,
    cpuUsedPct: sample.cpuUsedPct,
    memUsed: Number(sample.memUsedBytes),
    memTotal: Number(sample.memTotalBytes),
    memCache: Number(sample.memCacheBytes),
    diskUsed: Number(sample.diskUsedBytes),
    diskTotal: Number(sample.diskTotalBytes),
  };
}
