import { NestboxError } from '@nestbox/contract';
import type { ResumedSandbox } from '@nestbox/contract/http';
import type { SandboxRecord } from '../store/sandbox-record.ts';
import { findSandbox } from '../store/sandbox-repository.ts';
import { markResumed, markResuming } from '../store/sandbox-state-repository.ts';
import { EVERY_TEAM } from '../store/team-scope.ts';
import { notesOf } from './sandbox-notes.ts';
import { Overtaken, type Resumed } from './sandbox-transitions.ts';
import type { ServiceContext } from './service-context.ts';
import { settleAfterFailure } from './settle-sandbox.ts';
import { forTeam, type TeamContext } from './team-context.ts';
import { demandOf, withinLimits } from './team-limits.ts';
import { checkTimeout } from './timeout-range.ts';
import { Timings } from './timings.ts';
import { endedMeanwhile, lostTrack, whenStable } from './when-stable.ts';

/** With none it would end the moment that it runs, and what was paused would be lost. */
export const MIN_RESUMED_SEC = 1;

/**
 * Lets a paused sandbox run again, for `timeout` seconds. Throws `sandbox_not_paused` when it runs, `sandbox_not_found`,
 * `sandbox_stopping`, and errors of the host, after which it is as paused as it was.
 */
export async function resumeSandbox(
  context: TeamContext,
  rawId: string,
  { timeout, memory, autoPause }: ResumedSandbox,
  timings: Timings,
): Promise<SandboxRecord> {
  checkTimeout(timeout, MIN_RESUMED_SEC, context.maxTimeoutSec);
  const { record, stages } = await whenStable(context, rawId, async (found) => {
    if (found.state === 'running')
      throw new NestboxError('sandbox_not_paused', `The sandbox ${found.id} runs: there is nothing to resume.`);
    return await beginResume(context, found, { timeoutSec: timeout, memory, autoPause });
  });
  timings.add(stages);
  return record;
}

export interface ResumeWish {
  /** From the moment on when it runs. */
  readonly timeoutSec: number;
  /** False boots it from its disk. */
  readonly memory: boolean;
  /** Undefined: as it was. */
  readonly autoPause?: boolean | undefined;
}

/**
 * Begins to resume a paused sandbox for which nothing is in flight, as whenStable finds it. The resume belongs to all who
 * wait for it, so nobody's going away ends it.
 */
export function beginResume(context: ServiceContext, paused: SandboxRecord, wish: ResumeWish): Promise<Resumed> {
  context.hosts.get(paused.hostId).requireConnected();
  return context.tasks.track(context.transitions.runResume(paused.id, () => resume(context, paused, wish)));
}

async function resume(context: ServiceContext, paused: SandboxRecord, wish: ResumeWish): Promise<Resumed> {
  const { id: sandboxId, hostId } = paused;
  const host = context.hosts.get(hostId);
  const timings = new Timings();
  const resuming = await timings.measure('db', () =>
    withinLimits(forTeam(context, paused.teamId), { ...demandOf([paused]), isNew: false }, (trx) =>
      markResuming(trx, sandboxId, context.leases.serverId),
    ),
  );
  if (resuming === undefined) throw new Overtaken(sandboxId);
  try {
    const { memory, timeoutSec, autoPause } = wish;
    const notes = notesOf({
      ...resuming,
      timeoutSec: timeoutSec > 0 ? timeoutSec : resuming.timeoutSec,
      autoPause: autoPause ?? resuming.autoPause,
    });
    // Told again: one that came from another machine asks for the token of that one.
    const accessToken = resuming.secure ? context.tokens.guestToken(sandboxId) : '';
    const { sandbox, stages } = await timings.measure('host', () =>
      host.resumeSandbox({ sandboxId, memory, notes, accessToken }),
    );
    timings.add(stages);
    const endAtMs = context.clock.now() + timeoutSec * 1000;
    const record = await timings.measure('db', () =>
      markResumed(context.db, resuming, sandbox, { endAtMs, timeoutSec, autoPause }),
    );
    if (record === undefined) throw await lostTrack(context, sandboxId);
    context.endChanged();
    context.logger.info({ sandboxId, hostId, memory }, 'A sandbox runs again');
    return { record, stages: timings.list() };
  } catch (error) {
    const now = await findSandbox(context.db, EVERY_TEAM, sandboxId);
    if (now?.state === 'stopping') throw endedMeanwhile(sandboxId);
    if (now?.state === 'resuming' && now.revision === resuming.revision) await settleAfterFailure(context, now);
    throw error;
  }
}
