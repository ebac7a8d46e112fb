import { type Sandbox, type SandboxOrigin, SandboxState } from '@nestbox/contract/host';
import type { HostLink } from '../hosts/host-link.ts';
import type { Write } from '../leases.ts';
import { fromRow, type SandboxRecord } from '../store/sandbox-record.ts';
import { findSandbox, insertSandboxes } from '../store/sandbox-repository.ts';
import { findTeam } from '../store/team-repository.ts';
import { EVERY_TEAM } from '../store/team-scope.ts';
import { readNotes } from './sandbox-notes.ts';
import type { ServiceContext } from './service-context.ts';
import { settleSandbox } from './settle-sandbox.ts';

/** The life of one whose notes do not say how long it was to be. */
const DEFAULT_TIMEOUT_SEC = 300;

/**
 * Takes in a sandbox that a host has and no row names: the database was lost or is an older one, or the sandbox came from
 * another machine. A row is written before a host is asked for a sandbox and goes when the host has said that it is gone, so
 * nothing else leaves one without a row. It is asked again first: the news of it may be old. Throws errors of the host.
 */
export async function adoptSandbox(
  context: ServiceContext,
  host: HostLink,
  sandboxId: string,
  write: Write,
): Promise<void> {
  const found = await host.findOrigin(sandboxId);
  if (found === undefined || !isResting(found.sandbox)) return;
  if ((await findSandbox(context.db, EVERY_TEAM, sandboxId)) !== undefined) return;
  const record = await adopted(context, host.id, found.sandbox, found.origin);
  try {
    await write(async (db) => {
      await insertSandboxes(db, [record]);
      const reason = 'its host had it and the database did not';
      await context.audit.writeOwn(db, [{ operation: 'sandbox.adopt', sandboxId, teamId: record.teamId, reason }]);
    });
  } catch (error) {
    // Another control plane on this database was quicker.
    if ((await findSandbox(context.db, EVERY_TEAM, sandboxId)) === undefined) throw error;
    return;
  }
  context.endChanged();
  context.logger.warn(
    { sandboxId, hostId: host.id, state: record.state },
    'A host has a sandbox that the database did not know; it is taken in',
  );
  // Between its answer and the row it may have changed, and nobody would have heard of it.
  await settleSandbox(context, sandboxId, write);
}

/** In a state in which it stays until somebody asks for another; of one on its way there the host tells the end. */
function isResting({ state }: Sandbox): boolean {
  return state === SandboxState.RUNNING || state === SandboxState.PAUSED;
}

async function adopted(
  { db, clock, defaultTeamId }: ServiceContext,
  hostId: string,
  sandbox: Sandbox,
  origin: SandboxOrigin | undefined,
): Promise<SandboxRecord> {
  const nowMs = clock.now();
  const createdAtMs = Number(sandbox.createdAtMs);
  const isPaused = sandbox.state === SandboxState.PAUSED;
  const noted = readNotes(origin?.notes ?? '');
  const timeoutSec = noted.timeout_sec ?? DEFAULT_TIMEOUT_SEC;
  // A lost database had teams of other ids; theirs is the first one's then.
  const team = noted.team_id === undefined ? undefined : await findTeam(db, noted.team_id);
  return fromRow({
    // Of one without notes: nothing of it is shown to more people than before, and its end does not destroy it.
    alias: null,
    metadata: null,
    created_at_ms: createdAtMs,
    started_at_ms: createdAtMs,
    secure: Number(origin?.hasAccessToken ?? true),
    allow_internet_access: origin?.allowInternetAccess === false ? 0 : null,
    allow_public_traffic: 0,
    network: null,
    auto_pause: 1,
    auto_pause_memory: 1,
    auto_resume: 0,
    ...noted,
    team_id: team?.id ?? defaultTeamId,
    timeout_sec: timeoutSec,
    id: sandbox.sandboxId,
    state: isPaused ? 'paused' : 'running',
    host_id: hostId,
    template_id: sandbox.templateId,
    vcpu_count: sandbox.vcpuCount,
    memory_mib: sandbox.memoryMib,
    disk_mib: sandbox.diskMib,
    envd_version: sandbox.envdVersion,
    end_at_ms: isPaused ? nowMs : nowMs + timeoutSec * 1000,
    owner: null,
    // Above all that an earlier row of this id had: what was known of that one is not taken for this one.
    revision: nowMs,
    paused_memory: isPaused ? Number(sandbox.pausedMemory) : null,
  });
}
