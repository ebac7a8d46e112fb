import { NestboxError } from '@nestbox/contract';
import { beginResume } from './resume-sandbox.ts';
import type { ServiceContext } from './service-context.ts';
import { forEveryTeam } from './team-context.ts';
import { wakesByItself } from './wakes-by-itself.ts';
import { whenStable } from './when-stable.ts';

/**
 * For a request to a port of a sandbox that is paused, or on its way there or back: resolves when it runs. It is resumed with its
 * memory and for as long as its client last asked for, once for all who ask. Throws `sandbox_paused` when it does not
 * wake by itself, `sandbox_not_found`, `sandbox_stopping`, and errors of the host.
 */
export async function wakeSandbox(context: ServiceContext, sandboxId: string, port: number): Promise<void> {
  await whenStable(
    forEveryTeam(context),
    sandboxId,
    async (record) => {
      if (record.state === 'running') return;
      if (!wakesByItself(record)) throw new NestboxError('sandbox_paused', `The sandbox ${sandboxId} is paused.`);
      await beginResume(context, record, { timeoutSec: record.timeoutSec, memory: true });
      const { teamId } = record;
      const reason = `a request to its port ${port}`;
      await context.audit.noteOwn({ operation: 'sandbox.resume', sandboxId, teamId, reason });
    },
    async (resume) => {
      await resume;
    },
  );
}
