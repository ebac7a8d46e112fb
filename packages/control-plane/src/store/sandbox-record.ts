import type { Selectable } from 'kysely';
import { z } from 'zod';
import type { SandboxState } from './sandbox-state.ts';
import type { SandboxTable } from './schema.ts';

/** A sandbox as the services see it: a row with its JSON read and its flags turned into booleans. */
export interface SandboxRecord {
  readonly id: string;
  /** Whom it belongs to. */
  readonly teamId: string;
  readonly state: SandboxState;
  readonly hostId: string;
  readonly templateId: string;
  readonly alias: string | undefined;
  readonly metadata: Readonly<Record<string, string>> | undefined;
  readonly vcpuCount: number;
  readonly memoryMib: number;
  readonly diskMib: number;
  readonly envdVersion: string;
  readonly createdAtMs: number;
  readonly startedAtMs: number;
  /** While running: when it ends. While paused: when it was. While stopping: when ending it is tried again. */
  readonly endAtMs: number;
  readonly secure: boolean;
  /** Undefined: the client did not say. */
  readonly allowInternetAccess: boolean | undefined;
  readonly allowPublicTraffic: boolean;
  readonly network: StoredNetwork | undefined;
  /** Its end pauses it instead of destroying it. */
  readonly autoPause: boolean;
  /** False: that pause keeps the disk alone. */
  readonly autoPauseMemory: boolean;
  /** A request to the paused sandbox resumes it. */
  readonly autoResume: boolean;
  /** How long the client last asked it to live, for resuming it by itself. */
  readonly timeoutSec: number;
  /** Whether the last pause kept its memory, or is about to. Undefined: it has never been paused. */
  readonly pausedMemory: boolean | undefined;
  /** The server that works on it, while it is starting, pausing or resuming. */
  readonly owner: string | undefined;
  /** Grows with each change of the state, and is in no row the same as in an earlier one of this id. */
  readonly revision: number;
}

/** What is kept of the network part of a create request, with what updates have changed. */
export interface StoredNetwork {
  readonly allowPublicTraffic?: boolean | undefined;
  readonly allowOut?: string[] | undefined;
  readonly denyOut?: string[] | undefined;
  readonly maskRequestHost?: string | undefined;
  readonly httpsPorts?: number[] | undefined;
}

const storedMetadata = z.record(z.string(), z.string());
const storedNetwork = z.object({
  allowPublicTraffic: z.boolean().optional(),
  allowOut: z.array(z.string()).optional(),
  denyOut: z.array(z.string()).optional(),
  maskRequestHost: z.string().optional(),
  httpsPorts: z.array(z.int()).optional(),
});

export function toRow(record: SandboxRecord): SandboxTable {
  return {
    id: record.id,
    team_id: record.teamId,
    state: record.state,
    host_id: record.hostId,
    template_id: record.templateId,
    alias: record.alias ?? null,
    metadata: record.metadata === undefined ? null : JSON.stringify(record.metadata),
    vcpu_count: record.vcpuCount,
    memory_mib: record.memoryMib,
    disk_mib: record.diskMib,
    envd_version: record.envdVersion,
    created_at_ms: record.createdAtMs,
    started_at_ms: record.startedAtMs,
    end_at_ms: record.endAtMs,
    secure: Number(record.secure),
    allow_internet_access: record.allowInternetAccess === undefined ? null : Number(record.allowInternetAccess),
    allow_public_traffic: Number(record.allowPublicTraffic),
    network: record.network === undefined ? null : JSON.stringify(record.network),
    auto_pause: Number(record.autoPause),
    auto_pause_memory: Number(record.autoPauseMemory),
    auto_resume: Number(record.autoResume),
    timeout_sec: record.timeoutSec,
    paused_memory: record.pausedMemory === undefined ? null : Number(record.pausedMemory),
    owner: record.owner ?? null,
    revision: record.revision,
  };
}

export function fromRow(row: Selectable<SandboxTable>): SandboxRecord {
  return {
    id: row.id,
    teamId: row.team_id,
    state: row.state,
    hostId: row.host_id,
    templateId: row.template_id,
    alias: row.alias ?? undefined,
    metadata: row.metadata === null ? undefined : storedMetadata.parse(JSON.parse(row.metadata)),
    vcpuCount: row.vcpu_count,
    memoryMib: row.memory_mib,
    diskMib: row.disk_mib,
    envdVersion: row.envd_version,
    createdAtMs: row.created_at_ms,
    startedAtMs: row.started_at_ms,
    endAtMs: row.end_at_ms,
    secure: row.secure === 1,
    allowInternetAccess: row.allow_internet_access === null ? undefined : row.allow_internet_access === 1,
    allowPublicTraffic: row.allow_public_traffic === 1,
    network: row.network === null ? undefined : storedNetwork.parse(JSON.parse(row.network)),
    autoPause: row.auto_pause === 1,
    autoPauseMemory: row.auto_pause_memory === 1,
    autoResume: row.auto_resume === 1,
    timeoutSec: row.timeout_sec,
    pausedMemory: row.paused_memory === null ? undefined : row.paused_memory === 1,
    owner: row.owner ?? undefined,
    revision: row.revision,
  };
}
