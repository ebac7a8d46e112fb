import { readFileSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { type ProcessIdentity, readProcessIdentity } from '@nestbox/kit';

/** A process of this machine as /proc shows it. */
export interface RunningProcess {
  readonly identity: ProcessIdentity;
  /** Its command line, or its environment, word by word. */
  readonly words: readonly string[];
}

/**
 * Splits what /proc/PID/cmdline and /proc/PID/environ hold: words that each end with a NUL byte.
 * Source: proc_pid_cmdline(5). A process that rewrote its own command line may leave the last NUL out.
 */
export function parseNulTerminatedWords(content: string): string[] {
  if (content === '') return [];
  const words = content.split('\0');
  if (words.at(-1) === '') words.pop();
  return words;
}

/** Reads one process's words. Undefined when it is gone or nobody may look at it. */
export async function readProcessWords(pid: number, file: 'cmdline' | 'environ'): Promise<string[] | undefined> {
  try {
    return parseNulTerminatedWords(await readFile(`/proc/${pid}/${file}`, 'utf8'));
  } catch {
    // Gone between two looks, a zombie, or a kernel thread: nothing of ours in each case.
    return undefined;
  }
}

/** Every live process whose words satisfy `matches`. Zombies are left out. */
export async function findProcesses(
  file: 'cmdline' | 'environ',
  matches: (words: readonly string[]) => boolean,
): Promise<RunningProcess[]> {
  const found: RunningProcess[] = [];
  for (const name of await readdir('/proc')) {
    if (!/^[1-9][0-9]*$/.test(name)) continue;
    const pid = Number(name);
    const words = await readProcessWords(pid, file);
    if (words === undefined || !matches(words)) continue;
    const identity = readProcessIdentity(pid);
    if (identity !== undefined) found.push({ identity, words });
  }
  return found;
}

/** State letter of proc_pid_stat(5), e.g. `T` for stopped; undefined when there is no such process. */
export function readProcessState(pid: number): string | undefined {
  return readStat(pid)?.[0];
}

/** Undefined when there is no such process. */
export function readSessionId(pid: number): number | undefined {
  const session = readStat(pid)?.[3];
  return session === undefined ? undefined : Number(session);
}

/** Every process below this one: children, their children, and so on. */
export async function listDescendants(pid: number): Promise<ProcessIdentity[]> {
  const childrenOf = new Map<number, number[]>();
  for (const name of await readdir('/proc')) {
    const parent = /^[1-9][0-9]*$/.test(name) ? Number(readStat(Number(name))?.[1]) : Number.NaN;
    if (!Number.isNaN(parent)) childrenOf.set(parent, [...(childrenOf.get(parent) ?? []), Number(name)]);
  }
  const found: ProcessIdentity[] = [];
  const queue = [...(childrenOf.get(pid) ?? [])];
  for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
    const identity = readProcessIdentity(next);
    if (identity !== undefined) found.push(identity);
    queue.push(...(childrenOf.get(next) ?? []));
  }
  return found;
}

/** The fields after the command's name, which stands in parentheses and may itself hold any character: state, parent, group, session, … */
function readStat(pid: number): string[] | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  } catch {
    return undefined;
  }
}
