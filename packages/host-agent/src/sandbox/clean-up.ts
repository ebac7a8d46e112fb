import { rm } from 'node:fs/promises';
import type { NetworkSlot } from '../network/network.ts';
import type { VmHandle } from '../vmm/driver.ts';
import type { SandboxContext } from './sandbox-context.ts';

/** A step of a clean-up may take this long, however much time its request had left. */
const STEP_TIMEOUT_MS = 30_000;

/** What a sandbox may hold on this host. */
export interface SandboxHoldings {
  readonly sandboxId: string;
  readonly vm: VmHandle | undefined;
  readonly slot: NetworkSlot | undefined;
}

/**
 * Removes a sandbox from the host: the VM before its disk, the record last, so that a crash in between is found again.
 * Repeating it is fine. A step that fails is logged and the others follow; only a VM that cannot be ended throws, and then
 * its disk, network and record stay.
 */
export async function removeHoldings(context: SandboxContext, holdings: SandboxHoldings): Promise<void> {
  const { driver, networks } = context;
  const { sandboxId, vm, slot } = holdings;
  if (vm !== undefined) await withinStepTimeout('ending the VM', driver.destroy(vm));
  if (slot !== undefined) await attempt(context, sandboxId, 'removing the network', () => networks.release(slot));
  await removeFiles(context, sandboxId);
}

/** The run folder (sockets), then the sandbox's folder with everything in it. */
export async function removeFiles(context: SandboxContext, sandboxId: string): Promise<void> {
  const { layout, records } = context;
  await attempt(context, sandboxId, 'removing the run folder', () =>
    rm(layout.sandboxRunDir(sandboxId), { recursive: true, force: true }),
  );
  await attempt(context, sandboxId, 'removing the folder', () => records.remove(sandboxId));
}

/** Runs one step with a deadline of its own; a failure is logged, never thrown: what it leaves, the next start removes. */
export async function attempt(
  { logger }: SandboxContext,
  sandboxId: string,
  what: string,
  step: () => Promise<void>,
): Promise<void> {
  try {
    await withinStepTimeout(what, step());
  } catch (error) {
    logger.error({ err: error, sandboxId }, `${what} failed; the next start of this host agent tries again`);
  }
}

async function withinStepTimeout(what: string, step: Promise<void>): Promise<void> {
  const { promise: timeout, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => reject(new Error(`${what} did not end within ${STEP_TIMEOUT_MS} ms`)),
    STEP_TIMEOUT_MS,
  );
  try {
    await Promise.race([step, timeout]);
  } finally {
    clearTimeout(timer);
  }
}
