import { isErrorCode, NestboxError, newSandboxId } from '@nestbox/contract';
import type { ForkSandboxResponse_ForkOutcome } from '@nestbox/contract/host';
import type { SandboxFork } from '@nestbox/contract/http';
import { requireTakingNew } from '../scheduler/takes-new.ts';
import type { SandboxRecord } from '../store/sandbox-record.ts';
import { insertSandboxes } from '../store/sandbox-repository.ts';
import { becomeRunning } from './become-running.ts';
import { endFailedCreation } from './end-sandbox.ts';
import { requireTeam } from './manage-teams.ts';
import { notesOf } from './sandbox-notes.ts';
import type { TeamContext } from './team-context.ts';
import { demandOf, withinLimits } from './team-limits.ts';
import { checkTimeout } from './timeout-range.ts';
import type { Timings } from './timings.ts';
import { requireAwake } from './when-stable.ts';

/** What became of one copy. */
export type ForkResult = { readonly record: SandboxRecord } | { readonly error: NestboxError };

/**
 * Makes copies of a running sandbox on its host, memory and disk of the same moment; it goes on as it was. Each copy
 * succeeds or fails on its own, and one that failed is gone. When the call fails as a whole, or its signal is aborted, no
 * copy is left. Throws `invalid_request`, `sandbox_not_found`, `sandbox_paused`, `sandbox_stopping`, `host_unavailable` while the host takes no new sandboxes, and errors of the host.
 */
export function forkSandbox(
  context: TeamContext,
  rawId: string,
  request: SandboxFork,
  timings: Timings,
  signal?: AbortSignal,
): Promise<ForkResult[]> {
  return context.tasks.track(fork(context, rawId, request, timings, signal));
}

async function fork(
  context: TeamContext,
  rawId: string,
  { count, timeout }: SandboxFork,
  timings: Timings,
  signal?: AbortSignal,
): Promise<ForkResult[]> {
  checkTimeout(timeout, 1, context.maxTimeoutSec);
  await timings.measure('db', () => checkCount(context, count));
  const source = await timings.measure('db', () => requireAwake(context, rawId));
  const host = context.hosts.get(source.hostId);
  host.requireConnected();
  await timings.measure('db', () => requireTakingNew(context.db, [host]));
  const copies = Array.from({ length: count }, () => describeCopy(context, source, timeout));

  // The rows come first: what a host has and no row names is taken for left behind and destroyed.
  await timings.measure('db', () => withinLimits(context, demandOf(copies), (trx) => insertSandboxes(trx, copies)));
  await using undo = new AsyncDisposableStack();
  undo.defer(async () => {
    await Promise.all(copies.map((copy) => endFailedCreation(context, copy)));
  });

  const { outcomes, stages } = await timings.measure('host', () =>
    host.forkSandbox({ sandboxId: source.id, copies: copies.map((copy) => describeToHost(context, copy)) }, signal),
  );
  timings.add(stages);
  const results = await timings.measure('db', () =>
    Promise.all(copies.map((copy, index) => takeIn(context, copy, outcomes[index]))),
  );
  signal?.throwIfAborted();
  undo.move();
  context.logger.info({ sandboxId: source.id, hostId: host.id, count }, 'A sandbox was forked');
  return results;
}

/** Beside its source a copy never has a place when the team may not run so many at all. Throws `invalid_request`. */
async function checkCount(context: TeamContext, count: number): Promise<void> {
  const { maxRunning } = (await requireTeam(context, context.scope.teamId)).limits;
  if (maxRunning !== undefined && count >= maxRunning)
    throw new NestboxError(
      'invalid_request',
      `The field "count" must be less than ${maxRunning}, which is how many sandboxes the team may run.`,
    );
}

/** Everything that the source was created with; its life is its own. */
function describeCopy(context: TeamContext, source: SandboxRecord, timeoutSec: number): SandboxRecord {
  const nowMs = context.clock.now();
  return {
    ...source,
    id: newSandboxId(),
    state: 'starting',
    createdAtMs: nowMs,
    startedAtMs: nowMs,
    endAtMs: nowMs + timeoutSec * 1000,
    timeoutSec,
    pausedMemory: undefined,
    owner: context.leases.serverId,
    revision: 0,
  };
}

function describeToHost({ tokens }: TeamContext, copy: SandboxRecord) {
  const { id: sandboxId, secure } = copy;
  return { sandboxId, accessToken: secure ? tokens.guestToken(sandboxId) : '', notes: notesOf(copy) };
}

/** Never rejects: a copy that cannot be had is ended, and the others do not wait for that. */
async function takeIn(
  context: TeamContext,
  copy: SandboxRecord,
  outcome: ForkSandboxResponse_ForkOutcome | undefined,
): Promise<ForkResult> {
  try {
    const sandbox = requireSuccess(outcome);
    return { record: await becomeRunning(context, { ...sandbox, sandboxId: copy.id }, copy.timeoutSec) };
  } catch (error) {
    context.tasks.start('cleaning up a copy', () => endFailedCreation(context, copy), { sandboxId: copy.id });
    return { error: NestboxError.from(error) };
  }
}

function requireSuccess(outcome: ForkSandboxResponse_ForkOutcome | undefined) {
  const result = outcome?.outcome;
  if (result?.case === 'sandbox') return result.value;
  if (result?.case === 'failure') {
    const { code, message } = result.value;
    throw new NestboxError(isErrorCode(code) ? code : 'internal', message);
  }
  throw new NestboxError('internal', 'The host did not say what became of this copy.');
}
