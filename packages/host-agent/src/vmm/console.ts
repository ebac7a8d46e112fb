import { appendFile, open, stat, truncate } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { readFileTail } from './file-tail.ts';

/** Adds up to half of this to a cold boot's first answer; the agent is not ready by then anyway. */
const POLL_MS = 20;

/**
 * Waits until `marker` appears in the file, after `fromOffset`. Polls, since inotify does not work on every file system that
 * a state folder may be on. Rejects with the signal's reason.
 */
export async function waitForText(
  path: string,
  marker: string,
  fromOffset: number,
  signal: AbortSignal,
): Promise<void> {
  await using file = await open(path, 'r');
  const buffer = Buffer.alloc(16 * 1024);
  let offset = fromOffset;
  // A marker may be split between two looks, so the end of the last one is kept.
  let carried = '';
  for (;;) {
    signal.throwIfAborted();
    const { bytesRead } = await file.read(buffer, 0, buffer.length, offset);
    if (bytesRead > 0) {
      offset += bytesRead;
      const text = carried + buffer.toString('latin1', 0, bytesRead);
      if (text.includes(marker)) return;
      carried = text.slice(-(marker.length - 1));
    } else {
      await sleep(POLL_MS, undefined, { signal });
    }
  }
}

/**
 * Makes the console log, if it is new. Returns where this start's output begins, in bytes. Each start has a first line from us; on a
 * full disk it is what fails, since a VMM does not mind when it cannot write the log.
 */
export async function beginConsole(consolePath: string, note: string): Promise<number> {
  await using file = await open(consolePath, 'a', 0o600);
  await file.write(`${note}\n`);
  return (await file.stat()).size;
}

export interface ConsoleLimits {
  /** A longer log is cut. */
  readonly maxBytes: number;
  /** What stays of it. */
  readonly keptBytes: number;
}

/** Half a MiB a second is what a guest was seen to write through an emulated serial port. */
export const CONSOLE_LIMITS: ConsoleLimits = { maxBytes: 4 * 1024 * 1024, keptBytes: 64 * 1024 };

/**
 * Cuts a console log that has grown too long, so that a guest cannot fill the host's disk by writing to its serial port.
 * The writer appends (O_APPEND), so it goes on at the new end. Returns whether it cut.
 */
export async function limitConsoleLog(path: string, limits: ConsoleLimits = CONSOLE_LIMITS): Promise<boolean> {
  const size = await stat(path).then(
    (found) => found.size,
    () => 0,
  );
  if (size <= limits.maxBytes) return false;
  const kept = await readFileTail(path, limits.keptBytes);
  await truncate(path, 0);
  await appendFile(path, `[nestbox: older output was dropped]\n${kept}\n`);
  return true;
}
