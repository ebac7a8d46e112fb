import { NestboxError } from '@nestbox/contract';
import type { SandboxRecord } from '../store/sandbox-record.ts';
import { findSandbox } from '../store/sandbox-repository.ts';
import { markPaused, markPausing } from '../store/sandbox-state-repository.ts';
import { EVERY_TEAM } from '../store/team-scope.ts';
import { notesOf } from './sandbox-notes.ts';
import type { ServiceContext } from './service-context.ts';
import { settleAfterFailure } from './settle-sandbox.ts';
import type { TeamContext } from './team-context.ts';
import type { Timings } from './timings.ts';
import { endedMeanwhile, lostTrack, whenStable } from './when-stable.ts';

/**
 * Puts a running sandbox on its host's disk, with its memory or without, and resolves when it is there. A client that
 * goes away does not stop it. Throws `sandbox_not_found`, `sandbox_paused`, `sandbox_stopping`, and errors of the host,
 * after which the sandbox is in whichever state the host says.
 */
export async function pauseSandbox(
  context: TeamContext,
  rawId: string,
  memory: boolean,
  timings: Timings,
): Promise<void> {
  await whenStable(context, rawId, async (record) => {
    if (record.state === 'paused')
      throw new NestboxError('sandbox_paused', `The sandbox ${record.id} is paused already.`);
    context.hosts.get(record.hostId).requireConnected();
    const pause = context.transitions.run(record.id, async () => {
      const pausing = await timings.measure('db', () =>
        markPausing(context.db, record.id, memory, context.leases.serverId),
      );
      if (pausing === undefined) throw await overtaken(context, record.id);
      await pauseAtHost(context, pausing, timings);
    });
    await context.tasks.track(pause);
  });
}

/** Lets the host pause a sandbox that is `pausing`. To be called as its transition. */
export async function pauseAtHost(context: ServiceContext, record: SandboxRecord, timings: Timings): Promise<void> {
  const { id: sandboxId, pausedMemory: memory = true } = record;
  // From now on the edge looks again before it sends something there.
  context.routes.forget(sandboxId);
  const host = context.hosts.get(record.hostId);
  try {
    const { sandbox, stages } = await timings.measure('host', () =>
      host.pauseSandbox({ sandboxId, memory, notes: notesOf(record) }),
    );
    timings.add(stages);
    const paused = await timings.measure('db', () =>
      markPaused(context.db, record, context.clock.now(), sandbox.pausedMemory),
    );
    if (paused === undefined) throw await lostTrack(context, sandboxId);
    context.logger.info({ sandboxId, memory: paused.pausedMemory }, 'A sandbox is paused');
  } catch (error) {
    const now = await findSandbox(context.db, EVERY_TEAM, sandboxId);
    if (now?.state === 'stopping') throw endedMeanwhile(sandboxId);
    if (now?.state === 'pausing' && now.revision === record.revision) await settleAfterFailure(context, now);
    throw error;
  }
}

/** Since it was seen running, its time has come, or somebody killed it. */
async function overtaken(context: ServiceContext, sandboxId: string): Promise<NestboxError> {
  const record = await findSandbox(context.db, EVERY_TEAM, sandboxId);
  if (record?.state === 'pausing')
    return new NestboxError('sandbox_paused', `The sandbox ${sandboxId} is being paused already.`);
  return endedMeanwhile(sandboxId);
}
