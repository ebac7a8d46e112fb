import { z } from 'zod';
import { timestamp } from './common.ts';

/** One sample. Memory and disk in bytes, `cpuUsedPct` in percent of all CPUs, `timestampUnix` in seconds. */
export const sandboxMetricBody = z.object({
  timestamp,
  timestampUnix: z.int(),
  cpuCount: z.int(),
  cpuUsedPct: z.number(),
  memUsed: z.int(),
  memTotal: z.int(),
  memCache: z.int(),
  diskUsed: z.int(),
  diskTotal: z.int(),
});
export type SandboxMetric = z.infer<typeof sandboxMetricBody>;

const unixSeconds = z.coerce.number().int().min(0).max(Number.MAX_SAFE_INTEGER);

/** Both in seconds since the Unix epoch. */
export const sandboxMetricsQuery = z.object({ start: unixSeconds.optional(), end: unixSeconds.optional() });

/** Query of `GET /sandboxes/metrics`: up to 100 different ids, comma-joined or repeated. */
export const sandboxesMetricsQuery = z.object({
  sandbox_ids: z
    .union([z.string(), z.array(z.string())])
    .transform((value) => [value].flat().flatMap((part) => part.split(',')))
    .pipe(z.array(z.string().min(1)).max(100))
    .refine((ids) => new Set(ids).size === ids.length, 'must not name a sandbox twice'),
});

export const sandboxesWithMetricsBody = z.object({ sandboxes: z.record(z.string(), sandboxMetricBody) });
