import type { AdminTeam, ApiKey, TeamLimitsBody } from '@nestbox/contract/http';
import type { ApiKeyRecord } from '../store/api-key-repository.ts';
import type { TeamLimits, TeamRecord } from '../store/team-repository.ts';

export function viewApiKey(record: ApiKeyRecord): ApiKey {
  return {
    id: record.id,
    name: record.name,
    mask: {
      prefix: 'e2b_',
      valueLength: record.valueLength,
      maskedValuePrefix: record.shownPrefix,
      maskedValueSuffix: record.shownSuffix,
    },
    createdAt: new Date(record.createdAtMs).toISOString(),
    createdBy: null,
    lastUsed: viewTime(record.lastUsedAtMs),
    expiresAt: viewTime(record.expiresAtMs),
  };
}

export function viewAdminTeam({ id, name, isDefault, createdAtMs, limits }: TeamRecord): AdminTeam {
  return {
    teamID: id,
    name,
    isDefault,
    createdAt: new Date(createdAtMs).toISOString(),
    limits: {
      maxRunning: limits.maxRunning ?? null,
      maxVcpus: limits.maxVcpus ?? null,
      maxMemoryMB: limits.maxMemoryMib ?? null,
      maxCreatesPerMinute: limits.maxCreatesPerMinute ?? null,
    },
  };
}

/** Only the fields that are there; null becomes "no limit". */
export function readLimits(
  body: {
    readonly [Name in keyof TeamLimitsBody]?: TeamLimitsBody[Name] | undefined;
  },
): Partial<TeamLimits> {
  return {
    ...(body.maxRunning === undefined ? {} : { maxRunning: body.maxRunning ?? undefined }),
    ...(body.maxVcpus === undefined ? {} : { maxVcpus: body.maxVcpus ?? undefined }),
    ...(body.maxMemoryMB === undefined ? {} : { maxMemoryMib: body.maxMemoryMB ?? undefined }),
    ...(body.maxCreatesPerMinute === undefined ? {} : { maxCreatesPerMinute: body.maxCreatesPerMinute ?? undefined }),
  };
}

function viewTime(atMs: number | undefined): string | null {
  return atMs === undefined ? null : new Date(atMs).toISOString();
}
