import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

/** Pids of processes whose command line has this text. */
export function processesWith(text: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .filter((pid) => commandLine(pid).includes(text))
    .map(Number);
}

/** Pids of processes whose own name for themselves (argv[0]) this is; a script that mentions it does not count. */
export function processesNamed(name: string): number[] {
  return processesWith(name).filter((pid) => commandLine(String(pid)).split('\0')[0] === name);
}

function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}

/** Waits for something that the kernel does on its own after an event we had: there is no further event to wait for. */
export async function eventually(holds: () => boolean, what: string): Promise<void> {
  for (let attempt = 0; attempt < 500; attempt += 1) {
    if (holds()) return;
    await sleep(20);
  }
  throw new Error(`This never came to be: ${what}`);
}
