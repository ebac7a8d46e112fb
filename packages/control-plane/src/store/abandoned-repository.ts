import { type Kysely, sql } from 'kysely';
import { databaseNowMs } from './dialect.ts';
import { serverLease } from './lease-repository.ts';
import type { SandboxState } from './sandbox-state.ts';
import type { Database } from './schema.ts';

type Db = Kysely<Database>;

/** States in which some server works on a sandbox. Of a stopping one everybody may say that it is gone. */
const OWNED_STATES: readonly SandboxState[] = ['starting', 'pausing', 'resuming'];

/** The condition for `where`: nobody works on the sandbox, or a server that has not said in time that it lives. */
function isAbandoned(db: Db) {
  return sql<boolean>`(sandboxes.owner is null or not exists (
    select 1 from leases where leases.name = ${serverLease('')} || sandboxes.owner
      and leases.expires_at_ms > ${databaseNowMs(db)}))`;
}

export interface UnfinishedSandbox {
  readonly id: string;
  readonly hostId: string;
  readonly state: SandboxState;
  readonly revision: number;
}

/** Of these hosts: what was under way when its server died. */
export async function listAbandoned(db: Db, hostIds: readonly string[]): Promise<UnfinishedSandbox[]> {
  const rows = await db
    .selectFrom('sandboxes')
    .select(['id', 'host_id as hostId', 'state', 'revision'])
    .where('state', 'in', OWNED_STATES)
    .where('host_id', 'in', hostIds)
    .where(isAbandoned(db))
    .execute();
  return rows;
}

/** Pauses and resumptions of this server, whether or not it still works on them. */
export async function listOwnTransitions(db: Db, serverId: string): Promise<UnfinishedSandbox[]> {
  return await db
    .selectFrom('sandboxes')
    .select(['id', 'host_id as hostId', 'state', 'revision'])
    .where('state', 'in', ['pausing', 'resuming'])
    .where('owner', '=', serverId)
    .execute();
}

/** Nobody waits for them any more: they are due to be ended now. */
export async function stopAbandonedStarts(
  db: Db,
  hostId: string,
  nowMs: number,
): Promise<{ readonly id: string; readonly teamId: string }[]> {
  return await db
    .updateTable('sandboxes')
    .set((eb) => ({ state: 'stopping', end_at_ms: nowMs, owner: null, revision: eb('revision', '+', 1) }))
    .where('host_id', '=', hostId)
    .where('state', '=', 'starting')
    .where(isAbandoned(db))
    .returning(['id', 'team_id as teamId'])
    .execute();
}
