import { NestboxError } from '@nestbox/contract';
import type { SandboxActivity } from '@nestbox/contract/http';
import type { SandboxRecord } from '../store/sandbox-record.ts';
import { requireKnown } from './sandbox-lookup.ts';
import type { ScopedContext } from './team-context.ts';

/**
 * When something was last done with a sandbox, through its ports or by calls of the API, and what is going on in it now.
 * Looking at it is no activity. Throws `sandbox_not_found` and errors of the host.
 */
export async function getSandboxActivity(
  context: ScopedContext,
  rawId: string,
  signal?: AbortSignal,
): Promise<SandboxActivity> {
  const record = await requireKnown(context, rawId);
  const { lastActivityAtMs, ...now } = await askHost(context, record, signal);
  // A host that does not know says 0, and then the start counts.
  const latestMs = Math.max(lastActivityAtMs, record.startedAtMs, context.calls.find(record.id) ?? 0);
  return { lastActivityAt: new Date(latestMs).toISOString(), ...now };
}

async function askHost(context: ScopedContext, record: SandboxRecord, signal?: AbortSignal) {
  try {
    const answer = await context.hosts.get(record.hostId).getActivity(record.id, signal);
    return {
      lastActivityAtMs: Number(answer.lastActivityAtMs),
      runningCommands: answer.runningCommands,
      openConnections: answer.openConnections,
    };
  } catch (error) {
    const isPaused = error instanceof NestboxError && error.code === 'sandbox_paused';
    if (isPaused) return { lastActivityAtMs: 0, runningCommands: 0, openConnections: 0 };
    throw error;
  }
}
