import { NestboxError } from '@nestbox/contract';
import { initialise } from './bring-up-agent.ts';
import type { RunningVm } from './lifecycle.ts';
import type { LiveSandbox } from './live-sandbox.ts';
import type { SandboxContext } from './sandbox-context.ts';

const PREPARE_TIMEOUT_MS = 10_000;
const PRELOAD_TIMEOUT_MS = 120_000;

/**
 * Gets a guest ready to be saved: what the driver's flags ask for, and a guest whose memory will not be kept writes everything
 * to its disk. Best effort: a guest that does not answer is saved as it is. Throws where that would lose memory.
 */
export async function prepareGuest(
  { driver, logger }: Pick<SandboxContext, 'driver' | 'logger'>,
  sandbox: Pick<LiveSandbox, 'id'>,
  { guest, handle }: Pick<RunningVm, 'guest' | 'handle'>,
  { syncDisk }: { readonly syncDisk: boolean },
): Promise<void> {
  const { needsSnapshotPrepare, needsMemoryPreload } = driver.features;
  if (needsMemoryPreload && !syncDisk) await loadMemory(sandbox.id, guest);
  // Who pauses a sandbox watches its VM no more, and a guest that died does not even refuse a connection.
  const ended = new AbortController();
  using undo = new DisposableStack();
  try {
    if (needsSnapshotPrepare || syncDisk) {
      undo.defer(driver.onExit(handle, (reason) => ended.abort(new NestboxError('vm_died', reason))));
      await guest.prepareSnapshot(AbortSignal.any([ended.signal, AbortSignal.timeout(PREPARE_TIMEOUT_MS)]));
    }
  } catch (error) {
    logger.warn({ err: error, sandboxId: sandbox.id }, 'a guest did not get ready for its snapshot');
  }
  guest.closeIdleConnections();
}

/** What a VM has not read of its memory yet would be missing in its next state. Throws sandbox_unreachable, GuestError. */
async function loadMemory(sandboxId: string, guest: RunningVm['guest']): Promise<void> {
  const limit = AbortSignal.timeout(PRELOAD_TIMEOUT_MS);
  await guest.startMemoryPreload(limit);
  const { state } = await guest.waitForMemoryPreload(limit);
  if (state === 'done') return;
  throw new NestboxError(
    'sandbox_unreachable',
    `The guest of sandbox ${sandboxId} did not load all of its memory (${state}), without which it cannot be saved. It goes on.`,
  );
}

/**
 * A guest that got ready and then goes on where it is takes up again what it had put down. Best effort: it does so by itself
 * after a while.
 */
export async function unprepareGuest(
  { driver, logger }: SandboxContext,
  sandbox: LiveSandbox,
  { guest }: RunningVm,
  { syncDisk }: { readonly syncDisk: boolean },
): Promise<void> {
  if (!driver.features.needsSnapshotPrepare && !syncDisk) return;
  try {
    await initialise(sandbox.identity, guest, AbortSignal.timeout(PREPARE_TIMEOUT_MS));
  } catch (error) {
    logger.warn({ err: error, sandboxId: sandbox.id }, 'a guest was not told that it goes on');
  }
}
