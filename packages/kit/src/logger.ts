import { type Logger, pino } from 'pino';

export type { Logger } from 'pino';

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'silent';

/** Somebody who takes a key for its id has it in a path, and an error repeats what it was asked for. */
const API_KEY = /\be2b_[0-9a-f]{8,}/g;

/**
 * Structured logs as JSON lines on standard error, so that standard output stays the command's own; or to `write`, a line a
 * call, for tests of what is logged.
 */
export function createLogger(options: { level: LogLevel; name?: string; write?: (line: string) => void }): Logger {
  const { write } = options;
  return pino(
    {
      level: options.level,
      base: options.name === undefined ? null : { name: options.name },
      hooks: { streamWrite: (line) => line.replace(API_KEY, 'e2b_…') },
    },
    write === undefined ? pino.destination({ fd: 2, sync: true }) : { write },
  );
}
