import { type GetSandboxLogsResponse_LogLine, LogLevel } from '@nestbox/contract/host';
import type { LogLevelName, SandboxLogEntry, SandboxLogsV2Query } from '@nestbox/contract/http';
import { requireRemembered } from './sandbox-lookup.ts';
import type { ScopedContext } from './team-context.ts';

const TO_HOST: Record<LogLevelName, LogLevel> = {
  debug: LogLevel.DEBUG,
  info: LogLevel.INFO,
  warn: LogLevel.WARN,
  error: LogLevel.ERROR,
};

/**
 * A part of a sandbox's log; also of a paused sandbox, and for a week of one that has ended. Throws `sandbox_not_found` and
 * errors of the host.
 */
export async function getSandboxLogs(
  context: ScopedContext,
  rawId: string,
  { cursor, limit, direction, level, search }: SandboxLogsV2Query,
  signal?: AbortSignal,
): Promise<SandboxLogEntry[]> {
  const { id, hostId } = await requireRemembered(context, rawId);
  const lines = await context.hosts.get(hostId).getLogs(
    {
      sandboxId: id,
      limit,
      backward: direction === 'backward',
      search: search ?? '',
      ...(cursor === undefined ? {} : { cursorMs: BigInt(cursor) }),
      ...(level === undefined ? {} : { minLevel: TO_HOST[level] }),
    },
    signal,
  );
  return lines.map(toEntry);
}

function toEntry({ timeMs, level, message, fields }: GetSandboxLogsResponse_LogLine): SandboxLogEntry {
  return { timestamp: new Date(Number(timeMs)).toISOString(), message, level: levelName(level), fields };
}

function levelName(level: LogLevel): LogLevelName {
  switch (level) {
    case LogLevel.DEBUG:
      return 'debug';
    case LogLevel.WARN:
      return 'warn';
    case LogLevel.ERROR:
      return 'error';
    default:
      return 'info';
  }
}
