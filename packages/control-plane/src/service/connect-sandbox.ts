import type { ConnectSandbox } from '@nestbox/contract/http';
import type { SandboxRecord } from '../store/sandbox-record.ts';
import { extendEnd } from '../store/sandbox-repository.ts';
import { beginResume, MIN_RESUMED_SEC } from './resume-sandbox.ts';
import type { Resumed } from './sandbox-transitions.ts';
import type { TeamContext } from './team-context.ts';
import { checkTimeout } from './timeout-range.ts';
import type { Timings } from './timings.ts';
import { whenStable } from './when-stable.ts';

export interface Connected {
  readonly record: SandboxRecord;
  /** It was paused, and runs again. */
  readonly resumed: boolean;
}

/**
 * Answers a sandbox that lives at least `timeout` seconds from now: a paused one is resumed, or shares the resume that is
 * in flight; a running one is never given less than it had. Throws `sandbox_not_found`, `sandbox_stopping`,
 * `host_unavailable` when its host cannot be reached now, and errors of the host.
 */
export async function connectSandbox(
  context: TeamContext,
  rawId: string,
  { timeout, memory }: ConnectSandbox,
  timings: Timings,
): Promise<Connected> {
  checkTimeout(timeout, 0, context.maxTimeoutSec);
  const keepAlive = async (record: SandboxRecord, resumed: boolean): Promise<Connected | undefined> => {
    const endAtMs = context.clock.now() + timeout * 1000;
    const extended = await timings.measure('db', () =>
      extendEnd(context.db, context.scope, record.id, endAtMs, timeout),
    );
    return extended ? { record, resumed } : undefined;
  };
  const share = async (resume: Promise<Resumed>) => {
    const { record, stages } = await resume;
    timings.add(stages);
    return await keepAlive(record, true);
  };
  for (;;) {
    const connected = await whenStable(
      context,
      rawId,
      async (record): Promise<Connected | undefined> => {
        context.hosts.get(record.hostId).requireConnected();
        if (record.state === 'running') return await keepAlive(record, false);
        checkTimeout(timeout, MIN_RESUMED_SEC, context.maxTimeoutSec);
        const resumed = await beginResume(context, record, { timeoutSec: timeout, memory });
        timings.add(resumed.stages);
        return { record: resumed.record, resumed: true };
      },
      share,
    );
    // Undefined: its time came in between, or somebody paused or ended it.
    if (connected !== undefined) return connected;
  }
}
