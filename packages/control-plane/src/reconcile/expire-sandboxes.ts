import { endSandbox, STOP_RETRY_MS } from '../service/end-sandbox.ts';
import type { ServiceContext } from '../service/service-context.ts';
import { nextDueAtMs, takeDue } from '../store/sandbox-repository.ts';
import type { ReaperActions } from './reaper.ts';

const BATCH = 100;

/** Ends sandboxes at their time, and tries again for those that a host did not end before. */
export function expireSandboxes(context: ServiceContext): ReaperActions {
  return {
    nextDueAtMs: () => nextDueAtMs(context.db),
    takeDue: async (nowMs) => {
      const ids = await takeDue(context.db, nowMs, nowMs + STOP_RETRY_MS, BATCH);
      for (const id of ids) context.routes.forget(id);
      return ids;
    },
    end: (sandboxId) => endSandbox(context, sandboxId, 'timed out'),
  };
}
