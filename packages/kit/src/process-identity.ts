import { readFileSync } from 'node:fs';

/**
 * A process that can be recognised later: a pid alone is used again by the kernel, a pid with its start time is not.
 * `startTicks` is in clock ticks since boot.
 */
export interface ProcessIdentity {
  readonly pid: number;
  readonly startTicks: number;
}

/**
 * Reads who has this pid now. Undefined when nobody has, or it is a zombie. While other threads of one are still on their way out, it
 * has its memory and its locks, and counts as alive.
 */
export function readProcessIdentity(pid: number): ProcessIdentity | undefined {
  try {
    return parseProcessStat(pid, readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return undefined;
  }
}

/** `stat` is the line of /proc/PID/stat. Source: proc_pid_stat(5), fields 3 (state), 20 (num_threads), 22 (starttime). */
export function parseProcessStat(pid: number, stat: string): ProcessIdentity | undefined {
  // The command name is in parentheses and may hold spaces and parentheses itself.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [state, threads, startTicks] = [fields[0], Number(fields[17]), Number(fields[19])];
  if ((state === 'Z' || state === 'X') && !(threads > 1)) return undefined;
  return Number.isSafeInteger(startTicks) ? { pid, startTicks } : undefined;
}

export function isProcessAlive(identity: ProcessIdentity): boolean {
  return readProcessIdentity(identity.pid)?.startTicks === identity.startTicks;
}
