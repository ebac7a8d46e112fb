import type { Generated } from 'kysely';
import type { SettableHostStatus } from './host-status-repository.ts';
import type { SandboxState } from './sandbox-state.ts';

/**
 * The tables, in types that SQLite and PostgreSQL share: text, integers up to 2^53 and nothing else.
 * Times are milliseconds since the Unix epoch, flags are 0 or 1, objects are JSON in text.
 */
export interface Database {
  sandboxes: SandboxTable;
  sandbox_metadata: SandboxMetadataTable;
  ended_sandboxes: EndedSandboxTable;
  template_usage: TemplateUsageTable;
  teams: TeamTable;
  team_usage: TeamUsageTable;
  api_keys: ApiKeyTable;
  snapshot_owners: SnapshotOwnerTable;
  audit_entries: AuditEntryTable;
  installation: InstallationTable;
  leases: LeaseTable;
  host_statuses: HostStatusTable;
}

export interface SandboxTable {
  id: string;
  /** Whom it belongs to: nobody else sees it. */
  team_id: string;
  state: SandboxState;
  host_id: string;
  template_id: string;
  /** Name that the template had at creation. */
  alias: string | null;
  /** JSON object of strings; null when the client gave none. */
  metadata: string | null;
  vcpu_count: number;
  memory_mib: number;
  disk_mib: number;
  envd_version: string;
  created_at_ms: number;
  /** When it became ready; the creation until then. Lists are ordered by it. */
  started_at_ms: number;
  /** While running: when it ends. While paused: when it was. While stopping: when ending it is tried again. */
  end_at_ms: number;
  /** 1 when the guest agent asks for a token. The token itself derives from seed and id and is stored nowhere. */
  secure: number;
  /** As the client asked; null when it did not say. */
  allow_internet_access: number | null;
  /** 0 when the edge asks for the traffic token. */
  allow_public_traffic: number;
  /** JSON of the network part of the request, for telling it again; null when there was none. */
  network: string | null;
  /** 1 when its end pauses it instead of destroying it. */
  auto_pause: number;
  /** 0 when that pause keeps the disk alone. */
  auto_pause_memory: number;
  /** 1 when a request to the paused sandbox resumes it. */
  auto_resume: number;
  /** How long the client last asked it to live, for resuming it by itself. */
  timeout_sec: number;
  /** 1 when the last pause kept its memory, or is about to; 0 when only its disk; null when it has never been paused. */
  paused_memory: number | null;
  /** The server that works on it, while it is starting, pausing or resuming: the holder of a lease of `leases`. */
  owner: string | null;
  /** Grows with each change of the state: whoever works on a sandbox sees by it that another one has taken over. */
  revision: number;
}

/** The same pairs as in `sandboxes.metadata`, a row each, so that both databases can search them by index. */
export interface SandboxMetadataTable {
  sandbox_id: string;
  key: string;
  value: string;
}

/** Where a sandbox was that has ended, while its host may still keep its log. */
export interface EndedSandboxTable {
  id: string;
  team_id: string;
  host_id: string;
  ended_at_ms: number;
}

/** How often a team has used a template. */
export interface TemplateUsageTable {
  team_id: string;
  template_id: string;
  spawn_count: number;
  last_spawned_at_ms: number;
}

export interface TeamTable {
  /** A UUID. */
  id: string;
  name: string;
  /** 1 for the one that was there first: what nobody else owns is its own. */
  is_default: number;
  created_at_ms: number;
  /** The limits; null: none. */
  max_running: number | null;
  max_vcpus: number | null;
  max_memory_mib: number | null;
  max_creates_per_minute: number | null;
  /** Until when the creates so far use the team's rate up: service/team-limits.ts. */
  creates_used_until_ms: Generated<number>;
}

/** What a team did in a period of USAGE_PERIOD_MS; periods without anything have no row. */
export interface TeamUsageTable {
  team_id: string;
  period_start_ms: number;
  /** Most sandboxes at once. */
  peak_running: number;
  /** Sandboxes that were created, copies included. */
  starts: number;
}

export interface ApiKeyTable {
  /** A UUID. */
  id: string;
  team_id: string;
  name: string;
  /** SHA-256 of the key in hexadecimal. Keys are 160 random bits, so no salt and no slow hash is needed. */
  key_hash: string;
  /** Of the key without `e2b_`: how long it is, how it begins and ends, for telling keys apart. */
  value_length: number;
  shown_prefix: string;
  shown_suffix: string;
  created_at_ms: number;
  /** Written some time after the use. */
  last_used_at_ms: number | null;
  /** Null: never. */
  expires_at_ms: number | null;
  /** Null: it is valid. A revoked key keeps its row, so that no configuration brings it back. */
  revoked_at_ms: number | null;
  /** 1: it comes from a configuration, not from the API. */
  is_configured: number;
}

/** Whose a snapshot is. One that has no row, from before there were teams, is the default team's. */
export interface SnapshotOwnerTable {
  template_id: string;
  team_id: string;
  created_at_ms: number;
}

export interface InstallationTable {
  id: number;
  /** Tells one installation from another, and nothing else. */
  mark: string;
  /** Null: without a password in the database's URL. */
  sealed_secrets: string | null;
}

/** Who looks after a host (`host/<id>`), or which server lives (`server/<id>`). */
export interface LeaseTable {
  name: string;
  /** Id of a server's process. */
  holder: string;
  /** Grows with each change of the holder. */
  token: number;
  /** By the database's clock. */
  expires_at_ms: number;
  /** 1 when the holder reaches what the lease is about. */
  reaches: number;
}

/** What an administrator said of a host last. */
export interface HostStatusTable {
  host_id: string;
  status: SettableHostStatus;
  changed_at_ms: number;
}

/** A change that was asked for, or refused attempts to get in that were counted together. */
export interface AuditEntryTable {
  /** Grows with time: store/audit-repository.ts. */
  id: string;
  at_ms: number;
  request_id: string | null;
  operation: string;
  /** JSON array of ids. */
  targets: string;
  team_id: string | null;
  actor: 'key' | 'admin' | 'system' | 'unknown';
  key_id: string | null;
  key_name: string | null;
  address: string | null;
  /** 0 when nobody was answered. */
  status: number;
  error_code: string | null;
  count: number;
  /** Of what the server did by itself; null otherwise. */
  reason: string | null;
}
