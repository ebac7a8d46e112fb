import { statfs } from 'node:fs/promises';
import { NestboxError } from '@nestbox/contract';
import { waitForText } from './console.ts';
import { BOOT_SIGN_OF_LIFE, type VmSpec } from './driver.ts';
import { lastLines, readFileTail } from './file-tail.ts';

export interface BootWatchdog {
  /** Without a sign of life after this time the VMM is killed and the boot begins again, with twice the time. */
  readonly firstSignMs: number;
  /** Boots after the first. */
  readonly retries: number;
}

/**
 * A boot shows its sign of life after 1 to 2 s under TCG on an idle machine, 7 s on one with three times too much to do. The time doubles with each retry, since on a
 * machine that is merely overloaded the same time again would only end the same way.
 */
export const DEFAULT_BOOT_WATCHDOG: BootWatchdog = { firstSignMs: 15_000, retries: 2 };

/** The time that a boot gets; the first has attempt 0. */
export function firstSignLimitMs(watchdog: BootWatchdog, attempt: number): number {
  return watchdog.firstSignMs * 2 ** attempt;
}

/**
 * Waits for what comes first: the guest's sign of life on the console, the end of its VMM, or the end of its time.
 * Rejects with the signal's reason when that aborts.
 */
export async function watchBoot(
  boot: {
    readonly consolePath: string;
    /** Where this boot's output begins in the console log. */
    readonly consoleStart: number;
    /** Resolves when the VMM is gone. */
    readonly exited: Promise<unknown>;
    readonly limitMs: number;
  },
  signal?: AbortSignal,
): Promise<'alive' | 'silent' | 'gone'> {
  const gone = new AbortController();
  void boot.exited.then(() => gone.abort());
  const silence = AbortSignal.timeout(boot.limitMs);
  const ends = AbortSignal.any(signal === undefined ? [gone.signal, silence] : [gone.signal, silence, signal]);
  try {
    await waitForText(boot.consolePath, BOOT_SIGN_OF_LIFE, boot.consoleStart, ends);
    return 'alive';
  } catch (error) {
    signal?.throwIfAborted();
    if (gone.signal.aborted) return 'gone';
    if (silence.aborted) return 'silent';
    throw error;
  }
}

/** A guest whose console log finds no room on the host's disk looks silent. Throws host_disk_full. */
export async function requireConsoleSpace(consolePath: string): Promise<void> {
  if ((await statfs(consolePath)).bavail > 0) return;
  throw new NestboxError('host_disk_full', `The host's disk is full: ${consolePath} cannot be written.`);
}

/** For the message of `boot_timeout`. */
export async function describeSilence(spec: VmSpec, boots: number): Promise<string> {
  const times = boots === 1 ? 'in one boot' : `in ${boots} boots`;
  return `The guest's kernel gave no sign of life ${times}. ${await describeConsole(spec.consolePath, 0)}`;
}

/** The end of the console log, for an error message; of a panic what comes before its long list of registers. */
export async function describeConsole(consolePath: string, fromOffset: number): Promise<string> {
  const text = await readFileTail(consolePath, 16 * 1024, fromOffset);
  const panic = text.match(/^.*Kernel panic.*$/m)?.[0];
  const lines = lastLines(panic ?? text, 5);
  return lines === '' ? 'Its console is empty.' : `The last lines of its console:\n${lines}`;
}
