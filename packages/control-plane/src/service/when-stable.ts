import { NestboxError } from '@nestbox/contract';
import { systemClock } from '../clock.ts';
import type { SandboxRecord } from '../store/sandbox-record.ts';
import { findSandbox } from '../store/sandbox-repository.ts';
import { EVERY_TEAM } from '../store/team-scope.ts';
import { readSandboxId, sandboxNotFound } from './sandbox-lookup.ts';
import { Overtaken, type Resumed } from './sandbox-transitions.ts';
import type { ServiceContext } from './service-context.ts';
import { isAnothersWork, settleSandbox } from './settle-sandbox.ts';
import type { ScopedContext } from './team-context.ts';

/** How often the row of a sandbox is looked at that another server pauses or resumes. */
const OTHERS_POLL_MS = 100;

/**
 * Calls `decide` with a sandbox that is running or paused, with nothing in flight for it: a pause or resume that `decide`
 * begins at once is the only one. What is in flight is waited for, here or at another server; a resume of this one is given
 * to `join` instead, when there is one.
 * Throws `sandbox_not_found`, `sandbox_stopping`, and errors of the host.
 */
export async function whenStable<T>(
  context: ScopedContext,
  rawId: string,
  decide: (record: SandboxRecord & { readonly state: 'running' | 'paused' }) => Promise<T>,
  join?: (resume: Promise<Resumed>) => Promise<T>,
): Promise<T> {
  const id = readSandboxId(rawId);
  for (;;) {
    // To whom it is not there, nothing of what is in flight for it is told, nor that anything is.
    if (context.transitions.has(id) && (await findSandbox(context.db, context.scope, id)) === undefined)
      throw sandboxNotFound(rawId);
    const resume = context.transitions.resumeOf(id);
    if (resume !== undefined && join !== undefined) {
      try {
        return await join(resume);
      } catch (error) {
        if (error instanceof Overtaken) continue;
        throw error;
      }
    }
    await context.transitions.ended(id);
    const record = await findSandbox(context.db, context.scope, id);
    if (context.transitions.has(id)) continue;
    switch (record?.state) {
      case 'running':
      case 'paused':
        try {
          return await decide({ ...record, state: record.state });
        } catch (error) {
          if (!(error instanceof Overtaken)) throw error;
        }
        break;
      case 'pausing':
      case 'resuming':
        if (await isAnothersWork(context, record)) {
          await systemClock.sleep(OTHERS_POLL_MS, context.stopping);
          if (context.stopping.aborted)
            throw new NestboxError('host_unavailable', 'The server is being ended; ask again.');
          break;
        }
        // An earlier server began it, or its host did not say how it ended.
        if (!(await settleSandbox(context, id)))
          throw new NestboxError('host_unavailable', `The host is busy with the sandbox ${id}; try again in a moment.`);
        break;
      case 'stopping':
        throw new NestboxError('sandbox_stopping', `The sandbox ${id} is being ended.`);
      default:
        throw sandboxNotFound(rawId);
    }
  }
}

/** For what needs a running sandbox: waits for a pause or resume under way. Throws `sandbox_paused` and as above. */
export function requireAwake(context: ScopedContext, rawId: string): Promise<SandboxRecord> {
  return whenStable(context, rawId, async (record) => {
    if (record.state === 'running') return record;
    throw new NestboxError('sandbox_paused', `The sandbox ${record.id} is paused: connect to it first.`);
  });
}

/** For a pause or resume that somebody's wish to end the sandbox has overtaken. */
export function endedMeanwhile(sandboxId: string): NestboxError {
  return new NestboxError('sandbox_stopping', `The sandbox ${sandboxId} was ended meanwhile.`);
}

/** Why a pause or resume could not be recorded: somebody ended the sandbox, or took this server for dead and settled it. */
export async function lostTrack(context: ServiceContext, sandboxId: string): Promise<NestboxError> {
  const record = await findSandbox(context.db, EVERY_TEAM, sandboxId);
  if (record === undefined || record.state === 'stopping') return endedMeanwhile(sandboxId);
  return new NestboxError(
    'conflict',
    `Another control plane has looked after the sandbox ${sandboxId} meanwhile; look at its state.`,
  );
}
