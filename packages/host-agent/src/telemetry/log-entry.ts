import { z } from 'zod';

export const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** One line of a sandbox's log. */
export interface LogEntry {
  /** Milliseconds since the Unix epoch. */
  readonly timeMs: number;
  readonly level: LogLevel;
  readonly message: string;
  readonly fields: Readonly<Record<string, string>>;
}

/** Up to where the guest's own lines have been fetched. */
export interface GuestLogPosition {
  /** Another one means that the guest booted anew. */
  readonly buffer: string;
  readonly seq: number;
}

/** What has been taken over already of the two sources that are read bit by bit. */
export interface LogMarks {
  readonly guest?: GuestLogPosition | undefined;
  /** Bytes of the console. */
  readonly console?: number | undefined;
}

/** As it stands in the file; short names, since each line repeats them. The last line says how far the sources were read. */
const storedLine = z.object({
  t: z.number(),
  l: z.enum(LOG_LEVELS),
  m: z.string(),
  f: z.record(z.string(), z.string()).optional(),
  g: z.tuple([z.string(), z.number()]).optional(),
  c: z.number().optional(),
});

export interface StoredLine {
  readonly entry: LogEntry;
  readonly marks: LogMarks;
}

const MAX_MESSAGE_LENGTH = 8 * 1024;
const MAX_FIELDS = 32;
const MAX_FIELD_LENGTH = 4 * 1024;

/** A guest may send any text; what is kept of a line is bounded. */
export function formatLine(entry: LogEntry, { guest, console }: LogMarks = {}): string {
  const fields = Object.entries(entry.fields).slice(0, MAX_FIELDS);
  return `${JSON.stringify({
    t: entry.timeMs,
    l: entry.level,
    m: cut(entry.message, MAX_MESSAGE_LENGTH),
    ...(fields.length === 0
      ? {}
      : { f: Object.fromEntries(fields.map(([name, value]) => [cut(name, 100), cut(value, MAX_FIELD_LENGTH)])) }),
    ...(guest === undefined ? {} : { g: [guest.buffer, guest.seq] }),
    ...(console === undefined ? {} : { c: console }),
  })}\n`;
}

/** Undefined for what is no line: a crash may have cut the last one. */
export function parseLine(text: string): StoredLine | undefined {
  try {
    const { t, l, m, f, g, c } = storedLine.parse(JSON.parse(text));
    return {
      entry: { timeMs: t, level: l, message: m, fields: f ?? {} },
      marks: { guest: g && { buffer: g[0], seq: g[1] }, console: c },
    };
  } catch {
    return undefined;
  }
}

function cut(text: string, length: number): string {
  return text.length > length ? `${text.slice(0, length)}…` : text;
}
