import { NestboxError } from '@nestbox/contract';
import type { MaxTeamMetric, TeamMetric } from '@nestbox/contract/http';
import { systemClock } from '../clock.ts';
import { countRunningByTeam } from '../store/sandbox-list-repository.ts';
import {
  dropTeamUsageBefore,
  listTeamUsage,
  noteTeamUse,
  USAGE_PERIOD_MS,
  type UsagePeriod,
} from '../store/team-usage-repository.ts';
import { requireTeam } from './manage-teams.ts';
import type { ServiceContext } from './service-context.ts';
import type { TeamContext } from './team-context.ts';

const KEPT_MS = 7 * 24 * 3600_000;
const DEFAULT_RANGE_MS = 24 * 3600_000;
const MAX_POINTS = 1500;
/** Farthest time that a date can tell. Source: ECMA-262, section 21.4.1.1. */
const MAX_TIME_MS = 8.64e15;

/** Seconds since the Unix epoch, both inclusive. */
export interface TeamMetricsRange {
  readonly start?: number | undefined;
  readonly end?: number | undefined;
}

/**
 * What the team did, oldest first: a point for each minute in which something ran, or for several minutes in a long range.
 * The last 24 hours unless asked otherwise; seven days are kept. Throws `team_not_found` and `invalid_request`.
 */
export async function getTeamMetrics(context: TeamContext, range: TeamMetricsRange): Promise<TeamMetric[]> {
  const { periods, stepMs } = await readPeriods(context, range);
  const points = new Map<number, { peak: number; starts: number }>();
  for (const { startMs, peakRunning, starts } of periods) {
    const atMs = startMs - (startMs % stepMs);
    const point = points.get(atMs) ?? { peak: 0, starts: 0 };
    points.set(atMs, { peak: Math.max(point.peak, peakRunning), starts: point.starts + starts });
  }
  return [...points].map(([atMs, { peak, starts }]) => ({
    ...when(atMs),
    concurrentSandboxes: peak,
    sandboxStartRate: starts / (stepMs / 1000),
  }));
}

/** The highest point, the latest of several; 0 now when there is none. Throws as above. */
export async function getMaxTeamMetric(
  context: TeamContext,
  metric: 'concurrent_sandboxes' | 'sandbox_start_rate',
  range: TeamMetricsRange,
): Promise<MaxTeamMetric> {
  const { periods } = await readPeriods(context, range);
  const measure = ({ peakRunning, starts }: UsagePeriod) =>
    metric === 'concurrent_sandboxes' ? peakRunning : starts / (USAGE_PERIOD_MS / 1000);
  const highest = periods.reduce<UsagePeriod | undefined>(
    (best, period) => (best === undefined || measure(period) >= measure(best) ? period : best),
    undefined,
  );
  if (highest === undefined) return { ...when(context.clock.now()), value: 0 };
  return { ...when(highest.startMs), value: measure(highest) };
}

/** Notes what runs, so that minutes in which nothing begins are told too. Until the signal is aborted; never rejects. */
export async function sampleTeams(context: ServiceContext, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await systemClock.sleep(USAGE_PERIOD_MS / 2, signal);
    if (signal.aborted) return;
    try {
      const nowMs = context.clock.now();
      for (const [teamId, running] of await countRunningByTeam(context.db))
        await noteTeamUse(context.db, { teamId }, nowMs, { running, starts: 0 });
      await dropTeamUsageBefore(context.db, nowMs - KEPT_MS);
    } catch (error) {
      context.logger.warn({ err: error }, 'What the teams run could not be noted');
    }
  }
}

async function readPeriods(context: TeamContext, { start, end }: TeamMetricsRange) {
  await requireTeam(context, context.scope.teamId);
  const toMs = end === undefined ? context.clock.now() : Math.min(end * 1000, MAX_TIME_MS);
  const fromMs = start === undefined ? toMs - DEFAULT_RANGE_MS : Math.min(start * 1000, MAX_TIME_MS);
  if (fromMs > toMs)
    throw new NestboxError('invalid_request', 'The query parameter "start" must not be later than "end".');
  const kept = { fromMs: Math.max(fromMs, context.clock.now() - KEPT_MS), toMs };
  const minutes = Math.max(1, Math.ceil((kept.toMs - kept.fromMs) / USAGE_PERIOD_MS / MAX_POINTS));
  // A range that lies ahead has few points whatever its length, but one step is as good as another there.
  const stepMs = Math.min(minutes, KEPT_MS / USAGE_PERIOD_MS) * USAGE_PERIOD_MS;
  return { periods: await listTeamUsage(context.db, context.scope, kept), stepMs };
}

function when(atMs: number) {
  return { timestamp: new Date(atMs).toISOString(), timestampUnix: Math.floor(atMs / 1000) };
}
