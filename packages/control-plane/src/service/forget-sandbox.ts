import type { Write } from '../leases.ts';
import { noteEnd } from '../store/ended-sandbox-repository.ts';
import { deleteSandbox, findSandbox } from '../store/sandbox-repository.ts';
import { EVERY_TEAM } from '../store/team-scope.ts';
import type { ServiceContext } from './service-context.ts';

/** Drops a sandbox that its host does not have any more. */
export async function forgetSandbox(
  context: ServiceContext,
  sandboxId: string,
  reason: string,
  write: Write,
): Promise<void> {
  context.routes.forget(sandboxId);
  context.calls.forget(sandboxId);
  const isDropped = await write(async (db) => {
    const record = await findSandbox(db, EVERY_TEAM, sandboxId);
    if (record !== undefined) await noteEnd(db, record, context.clock.now());
    return await deleteSandbox(db, sandboxId);
  });
  if (isDropped) context.logger.warn({ sandboxId, reason }, 'A sandbox ended by itself');
}
