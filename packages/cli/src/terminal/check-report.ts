import { styleText } from 'node:util';
import type { HostCheck } from '@nestbox/host-agent/doctor';

const MARKS = {
  ok: () => styleText('green', '✔'),
  warning: () => styleText('yellow', '!'),
  failed: () => styleText('red', '✗'),
} as const;

/** A line for what is fine; with reason and remedy below it for what is not. */
export function formatCheck({ name, state, found, why, mend }: HostCheck): string {
  const lines = [`${MARKS[state]()} ${styleText('bold', name)}: ${found}`];
  if (state !== 'ok') lines.push(`    ${why}`);
  if (mend !== undefined) lines.push(`    ${styleText('cyan', '→')} ${mend}`);
  return lines.join('\n');
}
