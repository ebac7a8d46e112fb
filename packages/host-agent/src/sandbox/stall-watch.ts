import { freeBytes } from '../storage/disk-space.ts';
import type { LiveSandbox } from './live-sandbox.ts';
import type { SandboxContext } from './sandbox-context.ts';

/** How often the host's free space is looked at, a cheap call. */
const INTERVAL_MS = 3000;
/** A VMM stops its guest when a write finds no space; with this much free there is no reason to ask each one. */
const LOW_SPACE_BYTES = 1024 * 2 ** 20;
/** A stalled guest goes on once this much is free again. */
const RESUME_SPACE_BYTES = 128 * 2 ** 20;

/**
 * Finds guests that their VMM holds still because the host's disk is full, and lets them go on when there is room.
 * Call the returned function to end it; it answers when no look is under way.
 */
export function watchForStalls(
  context: SandboxContext,
  running: () => Iterable<LiveSandbox>,
  intervalMs = INTERVAL_MS,
): () => Promise<void> {
  let looking: Promise<void> | undefined;
  const timer = setInterval(() => {
    looking ??= freeBytes(context.layout.sandboxesDir)
      .then((free) => lookForStalls(context, running(), free))
      .catch((error: unknown) => context.logger.error({ err: error }, 'looking for stalled VMs failed'))
      .finally(() => {
        looking = undefined;
      });
  }, intervalMs);
  timer.unref();
  return async () => {
    clearInterval(timer);
    await looking;
  };
}

type Watched = Pick<SandboxContext, 'driver' | 'logger' | 'telemetry'>;

/** One look, with so many bytes free where the sandboxes' disks are. */
export async function lookForStalls(context: Watched, running: Iterable<LiveSandbox>, free: number): Promise<void> {
  for (const sandbox of running) {
    const { lifecycle } = sandbox;
    if (lifecycle.state !== 'running') continue;
    if (lifecycle.stall === undefined && free >= LOW_SPACE_BYTES) continue;
    try {
      await lookAt(context, sandbox, free);
    } catch (error) {
      // A VM that is gone is told by its exit; one that does not answer is asked again next time.
      context.logger.warn({ err: error, sandboxId: sandbox.id }, 'the state of a VM could not be read');
    }
  }
}

async function lookAt({ driver, logger, telemetry }: Watched, sandbox: LiveSandbox, free: number): Promise<void> {
  const { lifecycle } = sandbox;
  if (lifecycle.state !== 'running') return;
  const { handle } = lifecycle.vm;
  let status = await driver.status(handle);
  if (status.state === 'stalled' && free >= RESUME_SPACE_BYTES) {
    await driver.resume(handle);
    status = await driver.status(handle);
  }
  // The sandbox may have ended while the VMM was asked. A pause that failed meanwhile has not changed what was found.
  const now = sandbox.lifecycle;
  if (now.state !== 'running' || now.vm.handle.vmId !== handle.vmId || now.vm.handle.runDir !== handle.runDir) return;
  if (status.state === 'stalled' && now.stall === undefined) {
    logger.warn({ sandboxId: sandbox.id, reason: status.reason }, 'a VM stands still until the disk has room');
    sandbox.transition({ ...now, stall: status.reason });
    void telemetry.note(sandbox.id, 'warn', `Sandbox stands still: ${status.reason}`);
  } else if (status.state === 'running' && now.stall !== undefined) {
    logger.info({ sandboxId: sandbox.id }, 'a VM goes on after it stood still');
    sandbox.transition({ ...now, stall: undefined });
    // What was told at the beginning may have found no room either.
    void telemetry.note(sandbox.id, 'warn', `Sandbox goes on, there is room again. It stood still: ${now.stall}`);
  }
}
