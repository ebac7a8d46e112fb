const RFC3339 = /^(\d{4}-\d{2}-\d{2})[Tt](\d{2}:\d{2}:\d{2})(?:\.(\d{1,9})\d*)?([Zz]|[+-]\d{2}:\d{2})$/;

/** Microseconds of Unix time of an RFC 3339 text, undefined when it is none. */
export function parseTimestamp(text: string): number | undefined {
  const [, date, time, fraction = '', zone] = RFC3339.exec(text) ?? [];
  const ms = Date.parse(`${date}T${time}${zone?.toUpperCase()}`);
  if (!Number.isFinite(ms)) return undefined;
  return ms * 1000 + Number(fraction.slice(0, 6).padEnd(6, '0'));
}
