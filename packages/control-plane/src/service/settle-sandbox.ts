import { SandboxState } from '@nestbox/contract/host';
import type { Kysely } from 'kysely';
import type { Write } from '../leases.ts';
import type { SandboxRecord } from '../store/sandbox-record.ts';
import { findSandbox } from '../store/sandbox-repository.ts';
import { shownState } from '../store/sandbox-state.ts';
import { markFoundRunning, markPaused } from '../store/sandbox-state-repository.ts';
import type { Database } from '../store/schema.ts';
import { EVERY_TEAM } from '../store/team-scope.ts';
import { forgetSandbox } from './forget-sandbox.ts';
import type { ServiceContext } from './service-context.ts';

/** How long after a host could not tell what became of a sandbox it is asked again. */
const SETTLE_RETRY_MS = 10_000;

/**
 * Brings the row of a sandbox that nothing here works on to what its host says: running, paused, or gone. Returns false
 * when the host is still in the middle of something; it is asked again then. `write` is that of whoever looks after the
 * host; whoever was asked for the sandbox needs none. Throws errors of the host.
 */
export async function settleSandbox(
  context: ServiceContext,
  sandboxId: string,
  write: Write = directly(context),
): Promise<boolean> {
  // What is in flight settles the row itself.
  if (context.transitions.has(sandboxId)) return true;
  return await context.transitions.run(sandboxId, async () => {
    const record = await findSandbox(context.db, EVERY_TEAM, sandboxId);
    if (record === undefined || record.state === 'starting' || record.state === 'stopping') return true;
    // When that server dies, what became of it is found out then.
    if (await isAnothersWork(context, record)) return true;
    return await adoptHostState(context, record, write);
  });
}

/** Whether another server that lives pauses or resumes it. */
export async function isAnothersWork({ leases }: ServiceContext, { state, owner }: SandboxRecord): Promise<boolean> {
  const isOwned = (state === 'pausing' || state === 'resuming') && owner !== undefined && owner !== leases.serverId;
  return isOwned && (await leases.isAlive(owner));
}

function directly({ db }: ServiceContext): Write {
  return (work) => db.transaction().execute(work);
}

/** The same from within a pause or resume whose call failed. Never rejects: the failure of that call is the one to tell. */
export async function settleAfterFailure(context: ServiceContext, record: SandboxRecord): Promise<void> {
  try {
    await adoptHostState(context, record, directly(context));
  } catch (error) {
    context.logger.warn({ err: error, sandboxId: record.id }, 'What became of a sandbox could not be found out yet');
    settleLater(context, record, directly(context));
  }
}

async function adoptHostState(context: ServiceContext, record: SandboxRecord, write: Write): Promise<boolean> {
  const nowMs = context.clock.now();
  const sandbox = await context.hosts.get(record.hostId).findSandbox(record.id);
  switch (sandbox?.state) {
    case undefined:
    case SandboxState.GONE:
      await forgetSandbox(
        context,
        record.id,
        sandbox?.reason || 'its host does not know it any more',
        write,
        record.revision,
      );
      return true;
    case SandboxState.RUNNING:
      if ((await writeFound(context, record, write, (db) => markFoundRunning(db, record, nowMs))) !== undefined)
        context.endChanged();
      return true;
    case SandboxState.PAUSED:
      await writeFound(context, record, write, (db) => markPaused(db, record, nowMs, sandbox.pausedMemory));
      context.routes.forget(record.id);
      return true;
    default:
      settleLater(context, record, write);
      return false;
  }
}

/** With an entry in the audit trail when clients see another state now: whoever asked for it got no answer that says so. */
async function writeFound(
  { audit }: ServiceContext,
  before: SandboxRecord,
  write: Write,
  mark: (db: Kysely<Database>) => Promise<SandboxRecord | undefined>,
): Promise<SandboxRecord | undefined> {
  return await write(async (db) => {
    const found = await mark(db);
    const state = found && shownState(found.state);
    if (found === undefined || state === shownState(before.state)) return found;
    const { id: sandboxId, teamId } = found;
    const [operation, reason] =
      state === 'paused'
        ? (['sandbox.pause', 'its host says that it is paused'] as const)
        : (['sandbox.resume', 'its host says that it runs'] as const);
    await audit.writeOwn(db, [{ operation, sandboxId, teamId, reason }]);
    return found;
  });
}

/** Until the host has said it, or is not connected any more: its next list settles everything then. */
function settleLater(context: ServiceContext, { id, hostId }: SandboxRecord, write: Write): void {
  const settle = () =>
    context.transitions.watch(id, async () => {
      while (context.hosts.find(hostId)?.state.kind === 'connected') {
        await context.clock.sleep(SETTLE_RETRY_MS, context.stopping);
        if (context.stopping.aborted || (await isSettled(context, id, write))) return;
      }
    });
  context.tasks.start('finding out what became of a sandbox', settle, { sandboxId: id });
}

async function isSettled(context: ServiceContext, sandboxId: string, write: Write): Promise<boolean> {
  try {
    return await settleSandbox(context, sandboxId, write);
  } catch (error) {
    context.logger.warn({ err: error, sandboxId }, 'What became of a sandbox could not be found out yet');
    return false;
  }
}
