import { readFileSync } from 'node:fs';

/**
 * A process that can be recognised later: a pid alone is used again by the kernel, a pid with its start time is not.
 * Source: proc_pid_stat(5), field 22, in clock ticks since boot.
 */
export interface ProcessIdentity {
  readonly pid: number;
  readonly startTicks: number;
}

/** Reads who has this pid now. Undefined when nobody has, or it is a zombie. */
export function readProcessIdentity(pid: number): ProcessIdentity | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return undefined;
  }
  // The command name is in parentheses and may hold spaces and parentheses itself.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  if (fields[0] === 'Z' || fields[0] === 'X') return undefined;
  const startTicks = Number(fields[19]);
  return Number.isSafeInteger(startTicks) ? { pid, startTicks } : undefined;
}

export function isProcessAlive(identity: ProcessIdentity): boolean {
  return readProcessIdentity(identity.pid)?.startTicks === identity.startTicks;
}
