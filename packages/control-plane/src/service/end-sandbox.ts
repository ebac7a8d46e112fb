import { NestboxError } from '@nestbox/contract';
import { systemClock } from '../clock.ts';
import type { Write } from '../leases.ts';
import { noteEnd } from '../store/ended-sandbox-repository.ts';
import type { SandboxRecord } from '../store/sandbox-record.ts';
import { deleteSandbox, findSandbox } from '../store/sandbox-repository.ts';
import { markStopping, postponeStop } from '../store/sandbox-state-repository.ts';
import { EVERY_TEAM } from '../store/team-scope.ts';
import type { ServiceContext } from './service-context.ts';
import { forEveryTeam, type ScopedContext } from './team-context.ts';

/** How long after a failed attempt the reaper tries again to end a sandbox. */
export const STOP_RETRY_MS = 10_000;

/** How long a request waits for another server to end a sandbox, and how often it looks. */
const ELSEWHERE_MS = 15_000;
const ELSEWHERE_POLL_MS = 200;

export type EndReason = 'killed' | 'timed out' | 'creation failed' | 'left behind' | 'its server ended';

/**
 * Ends a sandbox in whichever state it is and resolves when its host has said that it is gone: true when there was one.
 * It is stopping from the first moment on, so when the host cannot be reached (`host_unavailable` and other errors of
 * the host) it is out of every list and the reaper tries again. `write` is that of whoever looks after the host; whoever
 * was asked by somebody needs none.
 */
export function endSandbox(
  context: ScopedContext,
  sandboxId: string,
  reason: EndReason,
  write: Write = (work) => context.db.transaction().execute(work),
): Promise<boolean> {
  const ending = context.endings.run(sandboxId, async () => {
    const record = await findSandbox(context.db, context.scope, sandboxId);
    if (record === undefined) return false;
    const retryAtMs = context.clock.now() + STOP_RETRY_MS;
    await write(async (db) => {
      if (!(await markStopping(db, sandboxId, retryAtMs))) await postponeStop(db, sandboxId, retryAtMs);
    });
    context.routes.forget(sandboxId);
    context.endChanged();
    const isAnothers = context.hosts.find(record.hostId) === undefined;
    if (isAnothers && (await isEndedElsewhere(context, record, write))) return true;
    await context.hosts.get(record.hostId).destroySandbox(sandboxId);
    await write(async (db) => {
      // In the order of forget-sandbox.ts, which the host's own news of the end leads to at the same moment.
      if (await deleteSandbox(db, sandboxId)) await noteEnd(db, record, context.clock.now());
    });
    context.calls.forget(sandboxId);
    context.logger.info({ sandboxId, reason }, 'A sandbox ended');
    return true;
  });
  return context.tasks.track(ending);
}

/** Lets the server end it that looks after its host. Returns false when there is none, or it does not do it soon. */
async function isEndedElsewhere(
  { db, clock, leases, stopping }: ServiceContext,
  { id, hostId }: SandboxRecord,
  write: Write,
): Promise<boolean> {
  if (!(await leases.isLookedAfterElsewhere(hostId))) return false;
  // Servers look once a second what is due.
  await write((trx) => postponeStop(trx, id, clock.now()));
  const patience = AbortSignal.any([stopping, AbortSignal.timeout(ELSEWHERE_MS)]);
  while (!patience.aborted) {
    await systemClock.sleep(ELSEWHERE_POLL_MS, patience);
    if ((await findSandbox(db, EVERY_TEAM, id)) === undefined) return true;
  }
  return false;
}

/**
 * The failure that led here is the one to report; what fails in cleaning up is retried by the reaper. Never rejects.
 * Another server may have ended it before its host was asked for it, and nobody would end what came of that.
 */
export async function endFailedCreation(
  context: ServiceContext,
  { id: sandboxId, hostId }: Pick<SandboxRecord, 'id' | 'hostId'>,
): Promise<void> {
  try {
    if (await endSandbox(forEveryTeam(context), sandboxId, 'creation failed')) return;
    await context.hosts.get(hostId).destroySandbox(sandboxId);
  } catch (error) {
    context.logger.warn({ err: error, sandboxId }, `Cleaning up failed; trying again in ${STOP_RETRY_MS} ms`);
    // Then its row does not even say that it is to be ended, and the reaper does not find it.
    if (!(error instanceof NestboxError) || error.code !== 'database_unavailable') return;
    const again = async () => {
      await context.clock.sleep(STOP_RETRY_MS, context.stopping);
      if (!context.stopping.aborted) await endFailedCreation(context, { id: sandboxId, hostId });
    };
    context.tasks.start('cleaning up a sandbox', again, { sandboxId });
  }
}
