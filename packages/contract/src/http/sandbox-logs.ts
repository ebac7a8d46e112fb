import { z } from 'zod';
import { timestamp } from './common.ts';

export const logLevel = z.enum(['debug', 'info', 'warn', 'error']);
export type LogLevelName = z.infer<typeof logLevel>;

/** Milliseconds since the Unix epoch; a double holds no more exactly. */
const unixMs = z.coerce.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
export const MAX_LOG_LINES = 1000;
const limitUpTo = (most: number) => z.coerce.number().int().min(0).max(most).default(MAX_LOG_LINES);

/** Query of `GET /sandboxes/{sandboxID}/logs`. */
export const sandboxLogsQuery = z.object({ start: unixMs.optional(), limit: limitUpTo(2_147_483_647) });

/** Query of `GET /v2/sandboxes/{sandboxID}/logs`. `level` is the least one that is told. */
export const sandboxLogsV2Query = z.object({
  cursor: unixMs.optional(),
  limit: limitUpTo(MAX_LOG_LINES),
  direction: z.enum(['forward', 'backward']).default('forward'),
  level: logLevel.optional(),
  search: z.string().max(256).optional(),
});
export type SandboxLogsV2Query = z.infer<typeof sandboxLogsV2Query>;

export const sandboxLogEntry = z.object({
  timestamp,
  message: z.string(),
  level: logLevel,
  fields: z.record(z.string(), z.string()),
});
export type SandboxLogEntry = z.infer<typeof sandboxLogEntry>;

/** `line` is the whole entry as JSON. */
export const sandboxLogsBody = z.object({
  logs: z.array(z.object({ timestamp, line: z.string() })),
  logEntries: z.array(sandboxLogEntry),
});
export type SandboxLogs = z.infer<typeof sandboxLogsBody>;

export const sandboxLogsV2Body = z.object({ logs: z.array(sandboxLogEntry) });
