import type { ExitStatus } from '../system/wait.ts';

/** What Go calls the signals; the clients show these texts (envd-interface.md, 3.3). */
const SIGNAL_TEXTS = new Map([
  [1, 'hangup'],
  [2, 'interrupt'],
  [3, 'quit'],
  [4, 'illegal instruction'],
  [5, 'trace/breakpoint trap'],
  [6, 'aborted'],
  [7, 'bus error'],
  [8, 'floating point exception'],
  [9, 'killed'],
  [10, 'user defined signal 1'],
  [11, 'segmentation fault'],
  [12, 'user defined signal 2'],
  [13, 'broken pipe'],
  [14, 'alarm clock'],
  [15, 'terminated'],
]);

/** The text of Go's ProcessState: `exit status 3`, `signal: killed`, `signal: aborted (core dumped)`. */
export function exitStatusText(status: ExitStatus): string {
  if (status.kind === 'exited') return `exit status ${status.code}`;
  const name = SIGNAL_TEXTS.get(status.signal) ?? `signal ${status.signal}`;
  return `signal: ${name}${status.coreDumped ? ' (core dumped)' : ''}`;
}

export interface EndEvent {
  readonly exitCode: number;
  readonly exited: boolean;
  readonly status: string;
  readonly error?: string;
}

/** The `end` event of a process: exit code -1 when a signal ended it, `error` only when it did not succeed. */
export function endEvent(status: ExitStatus): EndEvent {
  const text = exitStatusText(status);
  if (status.kind === 'signaled') return { exitCode: -1, exited: false, status: text, error: text };
  return { exitCode: status.code, exited: true, status: text, ...(status.code !== 0 && { error: text }) };
}
