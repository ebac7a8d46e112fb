import { setFlagsFromString } from 'node:v8';

/** Once they may work at all, what a function must have run for before V8 makes faster code of it; its own limits are 400 and 3000. */
const THRESHOLDS = ['--no-sparkplug', '--invocation-count-for-maglev=20000', '--invocation-count-for-turbofan=60000'];
/** Functions of Node's own start-up count by V8's limits: they were counted before anybody could say otherwise. */
const REST = ['--no-maglev', '--no-turbofan'];
const WORK = ['--maglev', '--turbofan'];
/** So many requests of one life are the first ones; more than a template's guest serves before its snapshot. */
const FIRST_REQUESTS = 500;

/**
 * Makes V8 fit for a guest that is restored from a snapshot. Make it before anything else runs.
 *
 * An emulated processor translates each piece of machine code when it comes to it for the first time after a restore, and the user waits for that.
 * V8's compilers are a lot of code, which they would run through in the first requests, and what they make is new code again, while its interpreter
 * is the same few handlers for all functions. So there they rest in the first requests of each life, and then compile only what runs often.
 */
export class CompilerTuning {
  readonly #isEmulated: boolean;
  #requests = 0;

  /** `cpuinfo` is the text of /proc/cpuinfo. */
  constructor(cpuinfo: string) {
    this.#isEmulated = isEmulated(cpuinfo);
    // V8 throws compiled code away that has not run for a while. Here it is kept: it travels in snapshots.
    setFlagsFromString('--no-flush-bytecode');
    if (this.#isEmulated) set([...THRESHOLDS, ...REST]);
  }

  /** The machine was just booted or restored. */
  beginLife(): void {
    if (this.#isEmulated && this.#requests >= FIRST_REQUESTS) set(REST);
    this.#requests = 0;
  }

  /** A request has come. */
  count(): void {
    this.#requests += 1;
    if (this.#isEmulated && this.#requests === FIRST_REQUESTS) set(WORK);
  }
}

function set(flags: readonly string[]): void {
  for (const flag of flags) setFlagsFromString(flag);
}

/** Whether the processor is QEMU's own (TCG). */
export function isEmulated(cpuinfo: string): boolean {
  return /^model name\s*:.*\bTCG\b/m.test(cpuinfo);
}
