import { setTimeout as sleep } from 'node:timers/promises';
import { NestboxError } from '@nestbox/contract';
import { isProcessAlive, type ProcessIdentity } from '@nestbox/kit';

/** A process that was killed is gone within some milliseconds, and a connect may wait for that; one that was asked to end takes longer. */
const FIRST_POLL_MS = 1;
const LAST_POLL_MS = 10;
/** A process that is still there this long after SIGKILL hangs in the kernel (uninterruptible sleep). */
const KILL_WAIT_MS = 10_000;

/**
 * SIGTERM, grace, SIGKILL; returns when the process is gone. Without grace SIGKILL comes at once. A pid that somebody else has by now is left alone.
 * `group` signals the whole process group, whose leader the process must be.
 * Throws `internal` when not even SIGKILL ends it.
 */
export async function endProcess(
  identity: ProcessIdentity,
  options: { readonly graceMs: number; readonly group?: boolean },
): Promise<void> {
  const target = options.group === true ? -identity.pid : identity.pid;
  if (options.graceMs > 0 && !signalIfAlive(identity, target, 'SIGTERM')) return;
  if (options.graceMs > 0 && (await waitUntilGone(identity, options.graceMs))) return;
  if (!signalIfAlive(identity, target, 'SIGKILL')) return;
  if (await waitUntilGone(identity, KILL_WAIT_MS)) return;
  throw new NestboxError(
    'internal',
    `Process ${identity.pid} does not end, not even by SIGKILL: it hangs in the kernel, probably on a disk that does not answer.`,
  );
}

function signalIfAlive(identity: ProcessIdentity, target: number, signal: NodeJS.Signals): boolean {
  if (!isProcessAlive(identity)) return false;
  try {
    process.kill(target, signal);
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ESRCH') return false;
    throw error;
  }
}

/** True when the process was gone before the time was over. */
export async function waitUntilGone(identity: ProcessIdentity, limitMs: number): Promise<boolean> {
  const endsAt = performance.now() + limitMs;
  for (let pollMs = FIRST_POLL_MS; isProcessAlive(identity); pollMs = Math.min(LAST_POLL_MS, pollMs * 1.5)) {
    if (performance.now() >= endsAt) return false;
    await sleep(pollMs);
  }
  return true;
}
