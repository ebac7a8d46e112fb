import { NestboxError } from '@nestbox/contract';
import { isProcessAlive } from '@nestbox/kit';
import { describeConsole } from '../boot-watchdog.ts';
import type { VmCgroup } from '../cgroup/cgroup.ts';
import type { VmHandle } from '../driver.ts';
import { waitUntilGone } from '../end-process.ts';
import { explainExit } from '../exit-reason.ts';
import { lastLines, readFileTail } from '../file-tail.ts';
import type { ProcessExit } from '../launch.ts';

const LAST_WORDS_BYTES = 4096;

export interface VmProcessParts {
  readonly handle: VmHandle;
  readonly cgroup: VmCgroup | undefined;
  /** Of VMs that this process started. */
  readonly exited: Promise<ProcessExit> | undefined;
  /** What the VMM says of itself is appended here. */
  readonly logPath: string;
}

/** The process of a VM: whether it lives, and what can be known of its end. */
export class VmProcess {
  readonly handle: VmHandle;
  readonly #cgroup: VmCgroup | undefined;
  readonly #exited: Promise<ProcessExit> | undefined;
  readonly #logPath: string;
  #exit: ProcessExit | undefined;
  #outOfMemory = false;
  #lastWords = '';

  constructor({ handle, cgroup, exited, logPath }: VmProcessParts) {
    this.handle = handle;
    this.#cgroup = cgroup;
    this.#logPath = logPath;
    this.#exited = exited?.then((exit) => {
      this.#exit = exit;
      return exit;
    });
  }

  get isOwn(): boolean {
    return this.#exited !== undefined;
  }

  get isAlive(): boolean {
    return isProcessAlive(this.handle.process);
  }

  /** Whether it is gone before the time is over. */
  isGoneWithin(limitMs: number): Promise<boolean> {
    return waitUntilGone(this.handle.process, limitMs);
  }

  /**
   * Resolves when the process is gone. One that is not ours cannot be waited for: `nextLook` resolves when it is time to look
   * again. Rejects when the signal aborts.
   */
  async untilGone(signal: AbortSignal, nextLook: (signal: AbortSignal) => Promise<void>): Promise<void> {
    const aborted = Promise.withResolvers<never>();
    aborted.promise.catch(() => undefined);
    const onAbort = () => aborted.reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      signal.throwIfAborted();
      if (this.#exited !== undefined) await Promise.race([this.#exited, aborted.promise]);
      while (this.isAlive) await Promise.race([nextLook(signal), aborted.promise]);
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  /** Why it is gone, as far as is known. `shutdownCause` is what the VMM said of its guest's end. */
  async explainEnd(shutdownCause: string | undefined): Promise<string> {
    // The cgroup and the log go with destroy; what they said is remembered.
    this.#outOfMemory ||= (await this.#cgroup?.wasOutOfMemory().catch(() => false)) ?? false;
    const log = await readFileTail(this.#logPath, LAST_WORDS_BYTES).catch(() => '');
    this.#lastWords = lastLines(log, 3) || this.#lastWords;
    return explainExit({
      exit: this.#exit,
      shutdownCause,
      outOfMemory: this.#outOfMemory,
      lastWords: this.#lastWords,
    });
  }
}

/** Where the output of one start begins in a console log. */
export interface ConsoleStart {
  readonly path: string;
  /** In bytes. */
  readonly start: number;
}

/** The error for a VM that is gone: why, and the end of its console where it is worth a look. */
export async function vmDied(
  reason: string,
  console: ConsoleStart | undefined,
  cause?: unknown,
): Promise<NestboxError> {
  const code = reason.includes('No space left on device') ? 'host_disk_full' : 'vm_died';
  const tail = console === undefined ? '' : ` ${await describeConsole(console.path, console.start)}`;
  return new NestboxError(code, `${reason}${tail}`, { cause });
}
