import { extendEnd, findSandbox } from '../store/sandbox-repository.ts';
import { markFoundRunning } from '../store/sandbox-state-repository.ts';
import { EVERY_TEAM } from '../store/team-scope.ts';
import { pauseAtHost } from './pause-sandbox.ts';
import type { ServiceContext } from './service-context.ts';
import { Timings } from './timings.ts';

/** Why the server ends or pauses a sandbox, for the audit trail. */
export const TIME_OVER = 'its time was over';

/** How long after a failed attempt the reaper tries again to pause a sandbox whose time has come. */
const PAUSE_RETRY_MS = 10_000;

/**
 * Pauses a sandbox whose time has come and which is `pausing` because of that. When that fails it goes on running, if
 * its host says that it runs, and is due again soon: a failure never costs it its life. Throws the failure.
 */
export async function pauseAtEnd(context: ServiceContext, sandboxId: string): Promise<void> {
  while (context.transitions.has(sandboxId)) await context.transitions.ended(sandboxId);
  await context.transitions.run(sandboxId, async () => {
    const record = await findSandbox(context.db, EVERY_TEAM, sandboxId);
    // Somebody settled or ended it in between. When it runs again it will be due again: its end was moved when it was due.
    if (record?.state !== 'pausing' || record.owner !== context.leases.serverId) return;
    try {
      context.hosts.get(record.hostId).requireConnected();
    } catch (error) {
      // Nothing was asked of the host, so the sandbox runs as it did.
      await markFoundRunning(context.db, record, context.clock.now());
      context.endChanged();
      throw error;
    }
    try {
      await pauseAtHost(context, record, new Timings());
    } catch (error) {
      await extendEnd(context.db, EVERY_TEAM, sandboxId, context.clock.now() + PAUSE_RETRY_MS);
      context.endChanged();
      throw error;
    }
    const { teamId } = record;
    await context.audit.noteOwn({ operation: 'sandbox.pause', sandboxId, teamId, reason: TIME_OVER });
  });
}
