import { styleText } from 'node:util';
import type { SandboxTrace } from '@nestbox/contract/http';
import { endOf, formatMilliseconds, formatTimeline } from './timeline.ts';

type TracedOperation = SandboxTrace['operations'][number];

/** One operation of a sandbox: what it was, when and how long, and below it where its time went. `columns` wide. */
export function formatOperation({ name, startedAt, stages, error }: TracedOperation, columns: number): string {
  const failed = error === undefined || error === '' ? undefined : styleText('red', `  failed: ${error}`);
  return [
    `${styleText('bold', name)}  ${startedAt}  ${formatMilliseconds(endOf(stages))}`,
    ...(failed === undefined ? [] : [failed]),
    stages.length === 0 ? '  no parts of it were measured' : formatTimeline(stages, columns),
  ].join('\n');
}
