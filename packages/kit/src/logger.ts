import { type Logger, pino } from 'pino';

export type { Logger } from 'pino';

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'silent';

/**
 * Structured logs as JSON lines on standard error, so that standard output stays the command's own; or to `write`, a line a
 * call, for tests of what is logged.
 */
export function createLogger(options: { level: LogLevel; name?: string; write?: (line: string) => void }): Logger {
  const { write } = options;
  return pino(
    { level: options.level, base: options.name === undefined ? null : { name: options.name } },
    write === undefined ? pino.destination({ fd: 2, sync: true }) : { write },
  );
}
