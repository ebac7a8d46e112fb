import { extendEnd } from '../store/sandbox-repository.ts';
import { notRunning, readSandboxId } from './sandbox-lookup.ts';
import type { TeamContext } from './team-context.ts';

/** A refresh gives at least this much. Source: control API, `POST /refreshes`. */
const MIN_REFRESH_SEC = 15;

/** Lets the sandbox live at least `durationSec` from now; never shortens its life. Throws `sandbox_not_found`. */
export async function refreshSandbox(context: TeamContext, rawId: string, durationSec: number): Promise<void> {
  const endAtMs = context.clock.now() + Math.max(durationSec, MIN_REFRESH_SEC) * 1000;
  if (!(await extendEnd(context.db, context.scope, readSandboxId(rawId), endAtMs)))
    throw await notRunning(context, rawId);
}
