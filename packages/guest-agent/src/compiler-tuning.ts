import { setFlagsFromString } from 'node:v8';

/** What a function must have run for before V8 makes faster code of it; its own limits are 400 and 3000. */
const EMULATED = ['--no-sparkplug', '--invocation-count-for-maglev=20000', '--invocation-count-for-turbofan=60000'];

/**
 * Makes V8 fit for a guest that is restored from a snapshot. Call it before anything else runs; `cpuinfo` is the text of /proc/cpuinfo.
 *
 * An emulated processor translates each piece of machine code when it comes to it for the first time after a restore, and the user waits for that.
 * V8's compilers are a lot of code, which they would run through in the first requests, and what they make is new code again, while its interpreter
 * is the same few handlers for all functions. So only what really runs often is compiled there.
 */
export function tuneCompiler(cpuinfo: string): void {
  // V8 throws compiled code away that has not run for a while. Here it is kept: it travels in snapshots.
  setFlagsFromString('--no-flush-bytecode');
  if (isEmulated(cpuinfo)) for (const flag of EMULATED) setFlagsFromString(flag);
}

/** Whether the processor is QEMU's own (TCG). */
export function isEmulated(cpuinfo: string): boolean {
  return /^model name\s*:.*\bTCG\b/m.test(cpuinfo);
}
