import { deleteSandbox } from '../store/sandbox-repository.ts';
import type { ServiceContext } from './service-context.ts';

/** Drops a sandbox that its host does not have any more. */
export async function forgetSandbox(context: ServiceContext, sandboxId: string, reason: string): Promise<void> {
  context.routes.forget(sandboxId);
  context.calls.forget(sandboxId);
  if (await deleteSandbox(context.db, sandboxId))
    context.logger.warn({ sandboxId, reason }, 'A sandbox ended by itself');
}
