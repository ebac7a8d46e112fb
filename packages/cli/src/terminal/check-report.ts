import { styleText } from 'node:util';

/** One need of the host, as the rooms of the host agent report it. */
export interface HostNeed {
  readonly name: string;
  /** `warning`: sandboxes run, but something will probably not work as it should. */
  readonly state: 'ok' | 'warning' | 'failed';
  readonly found: string;
  readonly why: string;
  /** What to do about it; undefined when it is ok. */
  readonly mend: string | undefined;
}

const MARKS = {
  ok: () => styleText('green', '✔'),
  warning: () => styleText('yellow', '!'),
  failed: () => styleText('red', '✗'),
} as const;

/** A line for what is fine; with reason and remedy below it for what is not. */
export function formatCheck({ name, state, found, why, mend }: HostNeed): string {
  const lines = [`${MARKS[state]()} ${styleText('bold', name)}: ${found}`];
  if (state !== 'ok') lines.push(`    ${why}`);
  if (mend !== undefined) lines.push(`    ${styleText('cyan', '→')} ${mend}`);
  return lines.join('\n');
}
