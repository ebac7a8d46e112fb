import type { Write } from '../leases.ts';
import { noteEnd } from '../store/ended-sandbox-repository.ts';
import { deleteSandbox, findSandbox } from '../store/sandbox-repository.ts';
import { EVERY_TEAM } from '../store/team-scope.ts';
import type { ServiceContext } from './service-context.ts';

/** Drops a sandbox that its host does not have any more. `revision`: unless its state has changed since. */
export async function forgetSandbox(
  context: ServiceContext,
  sandboxId: string,
  reason: string,
  write: Write,
  revision?: number,
): Promise<void> {
  context.routes.forget(sandboxId);
  context.calls.forget(sandboxId);
  const isDropped = await write(async (db) => {
    const record = await findSandbox(db, EVERY_TEAM, sandboxId);
    if (record === undefined || !(await deleteSandbox(db, sandboxId, revision))) return false;
    await noteEnd(db, record, context.clock.now());
    return true;
  });
  if (isDropped) context.logger.warn({ sandboxId, reason }, 'A sandbox ended by itself');
}
