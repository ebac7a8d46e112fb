import { setEnd } from '../store/sandbox-repository.ts';
import { notRunning, readSandboxId } from './sandbox-lookup.ts';
import type { TeamContext } from './team-context.ts';
import { checkTimeout } from './timeout-range.ts';

/** Lets the sandbox end `timeoutSec` from now, sooner or later than before. Throws `sandbox_not_found`. */
export async function setSandboxTimeout(context: TeamContext, rawId: string, timeoutSec: number): Promise<void> {
  checkTimeout(timeoutSec, 0, context.maxTimeoutSec);
  const endAtMs = context.clock.now() + timeoutSec * 1000;
  if (!(await setEnd(context.db, context.scope, readSandboxId(rawId), endAtMs, timeoutSec)))
    throw await notRunning(context, rawId);
  context.endChanged();
}
