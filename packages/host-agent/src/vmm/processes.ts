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
