import { endSandbox, STOP_RETRY_MS } from '../service/end-sandbox.ts';
import type { ServiceContext } from '../service/service-context.ts';
import { listDue, markStopping, nextDueAtMs, postponeStop } from '../store/sandbox-repository.ts';
import type { ReaperActions } from './reaper.ts';

const BATCH = 100;

/** Ends sandboxes at their time, and tries again for those that a host did not end before. */
export function expireSandboxes(context: ServiceContext): ReaperActions {
  return {
    nextDueAtMs: () => nextDueAtMs(context.db),
    takeDue: async (nowMs) => {
      const due = await listDue(context.db, nowMs, BATCH);
      const retryAtMs = nowMs + STOP_RETRY_MS;
      for (const { id } of due)
        if (!(await markStopping(context.db, id, retryAtMs))) await postponeStop(context.db, id, retryAtMs);
      return due.map(({ id }) => id);
    },
    end: (sandboxId) => endSandbox(context, sandboxId, 'timed out'),
  };
}
