import type { SandboxLogEntry } from '@nestbox/contract/http';

/** Fields that say the same as the message. */
const QUIET_FIELDS: ReadonlySet<string> = new Set(['logger', 'event_type', 'pid']);

/** One line for people: time, level, who says it, what, and the fields that add something. */
export function formatLogLine({ timestamp, level, message, fields }: SandboxLogEntry): string {
  const details = Object.entries(fields)
    .filter(([name]) => !QUIET_FIELDS.has(name))
    .map(([name, value]) => ` ${name}=${/^[^\s"]+$/.test(value) ? value : JSON.stringify(value)}`);
  return `${timestamp} ${level.padEnd(5)} ${(fields.logger ?? '-').padEnd(7)} ${plain(message)}${details.join('')}`;
}

/** What a guest writes must not steer the terminal. */
function plain(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
  return text.replaceAll(/[\u0000-\u001f\u007f-\u009f]/g, ' ');
}
