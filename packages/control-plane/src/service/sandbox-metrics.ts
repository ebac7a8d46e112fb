import { NestboxError } from '@nestbox/contract';
import type { GetSandboxMetricsResponse } from '@nestbox/contract/host';
import type { SandboxMetric } from '@nestbox/contract/http';
import { requireKnown } from './sandbox-lookup.ts';
import type { ServiceContext } from './service-context.ts';

/** Bounds in seconds since the Unix epoch, both inclusive. */
export interface MetricsRange {
  readonly start?: number | undefined;
  readonly end?: number | undefined;
}

/**
 * The sandbox's state now, as a list of one; empty when now lies outside the range, since no history is kept, and when it
 * does not run.
 * Throws `sandbox_not_found` and errors of the host.
 */
export async function getSandboxMetrics(
  context: ServiceContext,
  rawId: string,
  { start = 0, end = Number.MAX_SAFE_INTEGER }: MetricsRange,
  signal?: AbortSignal,
): Promise<SandboxMetric[]> {
  if (start > end)
    throw new NestboxError('invalid_request', 'The query parameter "start" must not be later than "end".');
  const record = await requireKnown(context, rawId);
  if (record.state !== 'running') return [];
  const sample = await context.hosts.get(record.hostId).sampleMetrics(record.id, signal);
  return [toMetric(sample)].filter(({ timestampUnix }) => timestampUnix >= start && timestampUnix <= end);
}

/** By sandbox id. Sandboxes that do not run, or cannot be asked now, are left out. */
export async function getMetricsOfSandboxes(
  context: ServiceContext,
  rawIds: readonly string[],
  signal?: AbortSignal,
): Promise<Record<string, SandboxMetric>> {
  const samples = await Promise.all(
    rawIds.map(async (rawId): Promise<[string, SandboxMetric][]> => {
      try {
        const [metric] = await getSandboxMetrics(context, rawId, {}, signal);
        return metric === undefined ? [] : [[rawId, metric]];
      } catch (error) {
        context.logger.debug({ err: error, sandboxId: rawId }, 'No metrics of a sandbox');
        return [];
      }
    }),
  );
  return Object.fromEntries(samples.flat());
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
