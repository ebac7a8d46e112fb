import { NestboxError } from '@nestbox/contract';
import type { SandboxRecord } from '../store/sandbox-record.ts';
import { findSandbox } from '../store/sandbox-repository.ts';
import { readSandboxId, sandboxNotFound } from './sandbox-lookup.ts';
import type { Resumed } from './sandbox-transitions.ts';
import { settleSandbox } from './settle-sandbox.ts';
import type { ScopedContext } from './team-context.ts';

/**
 * Calls `decide` with a sandbox that is running or paused, with nothing in flight for it: a pause or resume that `decide`
 * begins at once is the only one. What is in flight is waited for; a resume is given to `join` instead, when there is one.
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
    const resume = context.transitions.resumeOf(id);
    if (resume !== undefined && join !== undefined) return await join(resume);
    await context.transitions.ended(id);
    const record = await findSandbox(context.db, context.scope, id);
    if (context.transitions.has(id)) continue;
    switch (record?.state) {
      case 'running':
      case 'paused':
        return await decide({ ...record, state: record.state });
      case 'pausing':
      case 'resuming':
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
