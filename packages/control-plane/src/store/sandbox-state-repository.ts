import type { ExpressionBuilder, Kysely, UpdateObject } from 'kysely';
import { fromRow, type SandboxRecord } from './sandbox-record.ts';
import { type SandboxState, STATES_BEFORE } from './sandbox-state.ts';
import type { Database } from './schema.ts';

/** `Kysely` or `Transaction`: every function here runs in whichever it is given. */
type Db = Kysely<Database>;

/** What a host tells of a sandbox when it is ready. */
export interface ReadySandbox {
  readonly vcpuCount: number;
  readonly memoryMib: number;
  readonly diskMib: number;
  readonly envdVersion: string;
}

/** Of a sandbox that was created. Undefined when it is not starting any more: somebody wants it ended. */
export function markRunning(
  db: Db,
  id: string,
  ready: ReadySandbox,
  life: { readonly startedAtMs: number; readonly endAtMs: number },
): Promise<SandboxRecord | undefined> {
  return change(db, id, 'running', ['starting'], {
    ...readyColumns(ready),
    started_at_ms: life.startedAtMs,
    end_at_ms: life.endAtMs,
  });
}

/** Returns undefined when it does not run. `memory`: what the pause is to keep. `owner`: the server that pauses it. */
export function markPausing(db: Db, id: string, memory: boolean, owner: string): Promise<SandboxRecord | undefined> {
  return change(db, id, 'pausing', ['running'], { paused_memory: Number(memory), owner });
}

/**
 * A sandbox as somebody found it, or brought it there: what changes it by this does nothing when another server has changed
 * its state since.
 */
export type Found = Pick<SandboxRecord, 'id' | 'revision'>;

/** Returns undefined when it neither runs nor is about to. A resume that failed leaves it paused since when it was. */
export function markPaused(
  db: Db,
  found: Found,
  pausedAtMs: number,
  memory: boolean,
): Promise<SandboxRecord | undefined> {
  return change(db, found, 'paused', STATES_BEFORE.paused, (eb) => ({
    paused_memory: Number(memory),
    end_at_ms: eb.case().when('state', '=', 'resuming').then(eb.ref('end_at_ms')).else(pausedAtMs).end(),
  }));
}

/** Returns undefined when it is not paused. `owner`: the server that resumes it. */
export function markResuming(db: Db, id: string, owner: string): Promise<SandboxRecord | undefined> {
  return change(db, id, 'resuming', ['paused'], { owner });
}

/** What a resume makes of a sandbox's settings. */
export interface ResumedLife {
  readonly endAtMs: number;
  /** 0 is no wish for a life, so it is not kept for the next time. */
  readonly timeoutSec: number;
  /** Undefined: as it was. Without pausing by itself it is not resumed by itself either. */
  readonly autoPause: boolean | undefined;
}

/** Returns undefined when it is not resuming any more: somebody wants it ended. */
export function markResumed(
  db: Db,
  found: Found,
  ready: ReadySandbox,
  { endAtMs, timeoutSec, autoPause }: ResumedLife,
): Promise<SandboxRecord | undefined> {
  return change(db, found, 'running', ['resuming'], {
    ...readyColumns(ready),
    end_at_ms: endAtMs,
    ...(timeoutSec > 0 ? { timeout_sec: timeoutSec } : {}),
    ...(autoPause === undefined ? {} : { auto_pause: Number(autoPause) }),
    ...(autoPause === false ? { auto_resume: 0 } : {}),
  });
}

/**
 * For a sandbox that its host says runs. One that was to be paused keeps its end; of one that was paused the end has
 * passed, so it gets the time that its client last asked for. Undefined when it was running, or is to be ended.
 */
export function markFoundRunning(db: Db, found: Found, nowMs: number): Promise<SandboxRecord | undefined> {
  return change(db, found, 'running', ['pausing', 'paused', 'resuming'], (eb) => ({
    end_at_ms: eb
      .case()
      .when('state', '=', 'pausing')
      .then(eb.ref('end_at_ms'))
      // PostgreSQL would take both for 32 bits.
      .else(eb(eb.cast<number>(eb.val(nowMs), 'bigint'), '+', eb(eb.cast<number>('timeout_sec', 'bigint'), '*', 1000)))
      .end(),
  }));
}

/** Returns false when it was stopping already or there is none. `retryAtMs`: when the reaper looks at it again. */
export async function markStopping(db: Db, id: string, retryAtMs: number): Promise<boolean> {
  return (await change(db, id, 'stopping', STATES_BEFORE.stopping, { end_at_ms: retryAtMs })) !== undefined;
}

/** Sets when ending a stopping sandbox is tried again. */
export async function postponeStop(db: Db, id: string, retryAtMs: number): Promise<void> {
  await db
    .updateTable('sandboxes')
    .set({ end_at_ms: retryAtMs })
    .where('id', '=', id)
    .where('state', '=', 'stopping')
    .execute();
}

/** A sandbox whose time has come, in the state that it has been brought to. */
export interface DueSandbox {
  readonly id: string;
  readonly hostId: string;
  readonly teamId: string;
  readonly state: SandboxState;
}

/** A running sandbox is due at its end, a stopping one when ending it is to be tried again. */
const DUE_STATES = ['running', 'stopping'] as const satisfies readonly SandboxState[];

/** What is looked for: due by `nowMs`, on one of these hosts, at most so many. */
export interface DueQuery {
  readonly state: (typeof DUE_STATES)[number];
  readonly hostIds: readonly string[];
  readonly nowMs: number;
  readonly limit: number;
}

/**
 * Takes what is due: it is stopping then, or pausing when it ran and that is how it ends, and due again at `retryAtMs`. `owner`: the server that pauses what is to be paused. One statement, whose conditions are asked again of the row itself: an end that another server moves later
 * at the same moment is not overlooked.
 */
export async function takeDue(
  db: Db,
  { state, hostIds, nowMs, limit }: DueQuery,
  retryAtMs: number,
  owner: string,
): Promise<DueSandbox[]> {
  const rows = await db
    .updateTable('sandboxes')
    .set((eb) => {
      const isPaused = eb.and([eb('state', '=', 'running'), eb('auto_pause', '=', 1)]);
      const pausing: SandboxState = 'pausing';
      const stopping: SandboxState = 'stopping';
      return {
        state: eb.case().when(isPaused).then(pausing).else(stopping).end(),
        paused_memory: eb.case().when(isPaused).then(eb.ref('auto_pause_memory')).else(eb.ref('paused_memory')).end(),
        end_at_ms: retryAtMs,
        owner: eb.case().when(isPaused).then(owner).else(null).end(),
        revision: eb('revision', '+', 1),
      };
    })
    .where('id', 'in', (eb) =>
      eb
        .selectFrom('sandboxes')
        .select('id')
        .where('state', '=', state)
        .where('end_at_ms', '<=', nowMs)
        .where('host_id', 'in', hostIds)
        .orderBy('end_at_ms')
        .limit(limit),
    )
    .where('state', '=', state)
    .where('end_at_ms', '<=', nowMs)
    .returning(['id', 'host_id', 'team_id', 'state'])
    .execute();
  return rows.map((row) => ({ id: row.id, hostId: row.host_id, teamId: row.team_id, state: row.state }));
}

/** When the next running or stopping sandbox of these hosts is due; undefined when there is none. */
export async function nextDueAtMs(db: Db, hostIds: readonly string[]): Promise<number | undefined> {
  const row = await db
    .selectFrom('sandboxes')
    .select('end_at_ms')
    .where('state', 'in', DUE_STATES)
    .where('host_id', 'in', hostIds)
    .orderBy('end_at_ms')
    .limit(1)
    .executeTakeFirst();
  return row?.end_at_ms;
}

type Columns = UpdateObject<Database, 'sandboxes'>;

/**
 * Every way of one sandbox into a state. Undefined when it was in none of the states that it may come from, or has changed
 * since it was found. Nobody works on it then, unless the columns name an owner.
 */
async function change<To extends keyof typeof STATES_BEFORE>(
  db: Db,
  sandbox: string | Found,
  to: To,
  from: readonly (typeof STATES_BEFORE)[To][number][],
  columns: Columns | ((eb: ExpressionBuilder<Database, 'sandboxes'>) => Columns),
): Promise<SandboxRecord | undefined> {
  let query = db
    .updateTable('sandboxes')
    .set((eb) => ({
      owner: null,
      ...(typeof columns === 'function' ? columns(eb) : columns),
      state: to,
      revision: eb('revision', '+', 1),
    }))
    .where('id', '=', typeof sandbox === 'string' ? sandbox : sandbox.id)
    .where('state', 'in', from);
  if (typeof sandbox !== 'string') query = query.where('revision', '=', sandbox.revision);
  const row = await query.returningAll().executeTakeFirst();
  return row && fromRow(row);
}

function readyColumns(ready: ReadySandbox): Columns {
  return {
    vcpu_count: ready.vcpuCount,
    memory_mib: ready.memoryMib,
    disk_mib: ready.diskMib,
    envd_version: ready.envdVersion,
  };
}
