import { listSandboxesOfHost } from '../store/sandbox-repository.ts';
import { endSandbox } from './end-sandbox.ts';
import type { ServiceContext } from './service-context.ts';
import { forEveryTeam } from './team-context.ts';

/**
 * For a server whose host ends with it, and what runs there: other servers on the database would tell it as running, and the
 * next start of this one would have to wonder why the host knows nothing of it. Paused sandboxes stay. Never rejects: what could not be ended is found to be gone when the host is back.
 */
export async function endOwnSandboxes(context: ServiceContext): Promise<void> {
  const { db, hosts, logger, audit } = context;
  const reason = 'its server ended';
  try {
    for (const host of hosts) {
      if (!host.isOwn) continue;
      const running = (await listSandboxesOfHost(db, host.id)).filter(({ state }) => state === 'running');
      await Promise.all(
        running.map(async ({ id, teamId }) => {
          if (await endSandbox(forEveryTeam(context), id, reason))
            await audit.noteOwn({ operation: 'sandbox.kill', sandboxId: id, teamId, reason });
        }),
      );
    }
  } catch (error) {
    logger.warn({ err: error }, 'Not all sandboxes of this server could be ended in the database');
  }
}
