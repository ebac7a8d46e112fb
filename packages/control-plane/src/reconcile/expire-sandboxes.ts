import { endSandbox, STOP_RETRY_MS } from '../service/end-sandbox.ts';
import { pauseAtEnd } from '../service/pause-at-end.ts';
import type { ServiceContext } from '../service/service-context.ts';
import { forEveryTeam } from '../service/team-context.ts';
import { nextDueAtMs, takeDue } from '../store/sandbox-state-repository.ts';
import type { ReaperActions } from './reaper.ts';

const BATCH = 100;

/**
 * Ends or pauses sandboxes at their time, as their clients asked for, and tries again for those that a host did not end
 * before.
 */
export function expireSandboxes(context: ServiceContext): ReaperActions {
  return {
    nextDueAtMs: () => nextDueAtMs(context.db),
    takeDue: async (nowMs) => {
      const due = await takeDue(context.db, nowMs, nowMs + STOP_RETRY_MS, BATCH);
      for (const { id } of due) context.routes.forget(id);
      return due.map(({ id, state }) => ({ sandboxId: id, isPaused: state === 'pausing' }));
    },
    end: (sandboxId) => endSandbox(forEveryTeam(context), sandboxId, 'timed out'),
    pause: (sandboxId) => pauseAtEnd(context, sandboxId),
  };
}
