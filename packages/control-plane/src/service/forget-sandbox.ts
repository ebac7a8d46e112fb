import { noteEnd } from '../store/ended-sandbox-repository.ts';
import { deleteSandbox, findSandbox } from '../store/sandbox-repository.ts';
import { EVERY_TEAM } from '../store/team-scope.ts';
import type { ServiceContext } from './service-context.ts';

/** Drops a sandbox that its host does not have any more. */
export async function forgetSandbox(context: ServiceContext, sandboxId: string, reason: string): Promise<void> {
  context.routes.forget(sandboxId);
  context.calls.forget(sandboxId);
  const record = await findSandbox(context.db, EVERY_TEAM, sandboxId);
  if (record !== undefined) await noteEnd(context.db, record, context.clock.now());
  if (await deleteSandbox(context.db, sandboxId))
    context.logger.warn({ sandboxId, reason }, 'A sandbox ended by itself');
}
