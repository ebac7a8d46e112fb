import { NestboxError } from '@nestbox/contract';
import type { RunningVm, Stall } from './lifecycle.ts';
import type { SandboxContext } from './sandbox-context.ts';

type Told = Pick<SandboxContext, 'driver' | 'logger' | 'telemetry'>;

/**
 * Lets a VM go on that was stopped to be saved. A VMM that lives and does not answer (the host's disk hangs, or the host has too much to do)
 * still holds everything, so its sandbox is not ended for that: it stands still, for the reason that is returned, until the stall watch
 * has an answer. Throws what says that the VM cannot go on.
 */
export async function letGoOn(
  { driver, logger, telemetry }: Told,
  sandboxId: string,
  { handle }: RunningVm,
): Promise<Stall | undefined> {
  try {
    await driver.resume(handle);
    return undefined;
  } catch (error) {
    const stall = stallFor(error);
    if (stall === undefined) throw error;
    tellStall({ logger, telemetry }, sandboxId, stall);
    return stall;
  }
}

/** Why a guest that a host agent took over does not answer, when that is because its VMM does not either; undefined: that is not why. */
export async function unansweringVmm(
  context: Told,
  sandboxId: string,
  { handle }: RunningVm,
): Promise<Stall | undefined> {
  try {
    await context.driver.status(handle);
    return undefined;
  } catch (error) {
    const stall = stallFor(error);
    if (stall !== undefined) tellStall(context, sandboxId, stall);
    return stall;
  }
}

function stallFor(error: unknown): Stall | undefined {
  if (!(error instanceof NestboxError) || error.code !== 'sandbox_unreachable') return undefined;
  return { code: error.code, reason: `${error.message} It goes on by itself as soon as that answers.` };
}

function tellStall({ logger, telemetry }: Omit<Told, 'driver'>, sandboxId: string, { reason }: Stall): void {
  logger.error({ sandboxId, reason }, 'a VM manager does not answer, so its VM stands still until it does');
  void telemetry.note(sandboxId, 'warn', `Sandbox stands still: ${reason}`);
}
