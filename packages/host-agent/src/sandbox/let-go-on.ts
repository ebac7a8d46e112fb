import { NestboxError } from '@nestbox/contract';
import type { RunningVm, Stall } from './lifecycle.ts';
import type { SandboxContext } from './sandbox-context.ts';

/**
 * Lets a VM go on that was stopped to be saved. A VMM that lives and does not answer (the host's disk hangs, or the host has too much to do)
 * still holds everything, so its sandbox is not ended for that: it stands still, for the reason that is returned, until the stall watch
 * has an answer. Throws what says that the VM cannot go on.
 */
export async function letGoOn(
  { driver, logger, telemetry }: Pick<SandboxContext, 'driver' | 'logger' | 'telemetry'>,
  sandboxId: string,
  { handle }: RunningVm,
): Promise<Stall | undefined> {
  try {
    await driver.resume(handle);
    return undefined;
  } catch (error) {
    if (!(error instanceof NestboxError) || error.code !== 'sandbox_unreachable') throw error;
    const reason = `${error.message} It goes on by itself as soon as that answers.`;
    logger.error({ err: error, sandboxId }, 'a VM manager does not answer, so its VM stands still until it does');
    void telemetry.note(sandboxId, 'warn', `Sandbox stands still: ${reason}`);
    return { code: error.code, reason };
  }
}
