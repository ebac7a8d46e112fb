import { endSandbox, STOP_RETRY_MS } from '../service/end-sandbox.ts';
import { pauseAtEnd, TIME_OVER } from '../service/pause-at-end.ts';
import type { ServiceContext } from '../service/service-context.ts';
import { forEveryTeam } from '../service/team-context.ts';
import { nextDueAtMs, takeDue } from '../store/sandbox-state-repository.ts';
import type { ReaperActions } from './reaper.ts';

const BATCH = 100;

/**
 * Ends or pauses sandboxes at their time, as their clients asked for, and tries again for those that a host did not end
 * before: on the hosts that this server looks after.
 */
export function expireSandboxes(context: ServiceContext): ReaperActions {
  return {
    nextDueAtMs: () => nextDueAtMs(context.db, context.leases.heldHosts()),
    takeDue: async (nowMs) => {
      const dueAtMs = await nextDueAtMs(context.db, context.leases.heldHosts());
      if (dueAtMs === undefined || dueAtMs > nowMs) return [];
      const due = await context.leases.withHeldHosts(async (trx, hostIds) => {
        const take = (state: 'running' | 'stopping') =>
          takeDue(trx, { state, hostIds, nowMs, limit: BATCH }, nowMs + STOP_RETRY_MS, context.leases.serverId);
        const expired = await take('running');
        const killed = expired.filter(({ state }) => state === 'stopping');
        await context.audit.writeOwn(
          trx,
          killed.map(({ id, teamId }) => ({ operation: 'sandbox.kill', sandboxId: id, teamId, reason: TIME_OVER })),
        );
        return [...expired, ...(await take('stopping'))];
      });
      for (const { id } of due) context.routes.forget(id);
      return due.map(({ id, hostId, state }) => ({ sandboxId: id, hostId, isPaused: state === 'pausing' }));
    },
    end: async ({ sandboxId, hostId }) => {
      const write = context.leases.writer(hostId);
      // Whoever looks after the host by now finds it due in a moment.
      if (write !== undefined) await endSandbox(forEveryTeam(context), sandboxId, 'timed out', write);
    },
    pause: ({ sandboxId }) => pauseAtEnd(context, sandboxId),
  };
}
