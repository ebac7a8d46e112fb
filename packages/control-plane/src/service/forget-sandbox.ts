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
  const dropped = await write(async (db) => {
    const record = await findSandbox(db, EVERY_TEAM, sandboxId);
    if (record === undefined || !(await deleteSandbox(db, sandboxId, revision))) return undefined;
    await noteEnd(db, record, context.clock.now());
    const { teamId } = record;
    // Who has one stopped stands in the audit trail since then.
    if (record.state !== 'stopping')
      await context.audit.writeOwn(db, [{ operation: 'sandbox.end', sandboxId, teamId, reason }]);
    return record;
  });
  if (dropped?.state === 'stopping') context.logger.info({ sandboxId, reason }, 'A sandbox ended');
  else if (dropped !== undefined) context.logger.warn({ sandboxId, reason }, 'A sandbox ended by itself');
}
