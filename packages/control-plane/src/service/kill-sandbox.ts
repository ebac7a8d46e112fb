import { endSandbox } from './end-sandbox.ts';
import { readSandboxId, sandboxNotFound } from './sandbox-lookup.ts';
import type { TeamContext } from './team-context.ts';

/** Resolves when the sandbox is gone. Throws `sandbox_not_found` when there was none. */
export async function killSandbox(context: TeamContext, rawId: string): Promise<void> {
  if (!(await endSandbox(context, readSandboxId(rawId), 'killed'))) throw sandboxNotFound(rawId);
}
