import { z } from 'zod';
import { textWithoutNul, timestamp } from './common.ts';

export const teamIdParams = z.object({ teamID: z.string() });

/** Answer of `GET /teams`. */
export const teamBody = z.object({
  teamID: z.string(),
  name: z.string(),
  /** The key that was sent; empty for an administrator, since keys are told once only. */
  apiKey: z.string(),
  isDefault: z.boolean(),
});
export type Team = z.infer<typeof teamBody>;

const limit = z.int().min(0).max(1_000_000_000).nullable();

/** Null: no limit. 0 allows none. */
export const teamLimitsBody = z.strictObject({
  maxRunning: limit,
  maxVcpus: limit,
  maxMemoryMB: limit,
  /** Copies count as well; resuming does not. */
  maxCreatesPerMinute: z.int().min(1).max(60_000).nullable(),
});
export type TeamLimitsBody = z.infer<typeof teamLimitsBody>;

/** A team as administrators see it. Nestbox's own. */
export const adminTeamBody = z.object({
  teamID: z.string(),
  name: z.string(),
  isDefault: z.boolean(),
  createdAt: timestamp,
  limits: teamLimitsBody,
});
export type AdminTeam = z.infer<typeof adminTeamBody>;

const teamName = textWithoutNul.trim().min(1).max(64);

export const newTeamBody = z.object({ name: teamName, limits: teamLimitsBody.partial().optional() });

/** What is missing stays as it was. */
export const updatedTeamBody = z.object({ name: teamName.optional(), limits: teamLimitsBody.partial().optional() });

export const killedSandboxesBody = z.object({ killedCount: z.int(), failedCount: z.int() });

/** By team id. */
export const runningCountsBody = z.record(z.string(), z.int());

const unixSeconds = z.coerce.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
export const teamMetricsQuery = z.object({ start: unixSeconds.optional(), end: unixSeconds.optional() });
export const teamMetricsMaxQuery = teamMetricsQuery.extend({
  metric: z.enum(['concurrent_sandboxes', 'sandbox_start_rate']),
});

export const teamMetricBody = z.object({
  timestamp,
  timestampUnix: z.int(),
  concurrentSandboxes: z.int(),
  /** Sandboxes a second. */
  sandboxStartRate: z.number(),
});
export type TeamMetric = z.infer<typeof teamMetricBody>;

export const maxTeamMetricBody = z.object({ timestamp, timestampUnix: z.int(), value: z.number() });
export type MaxTeamMetric = z.infer<typeof maxTeamMetricBody>;
