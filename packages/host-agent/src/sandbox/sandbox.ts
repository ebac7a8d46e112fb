import type { EgressSettings, NestboxError } from '@nestbox/contract';
import type { DiskUsage } from '../storage/disk-usage.ts';
import type { Template } from '../storage/template-store.ts';
import type { LogEntry } from '../telemetry/log-entry.ts';
import type { MetricSample } from '../telemetry/metric-history.ts';
import type { LogQuery } from '../telemetry/sandbox-logs.ts';
import type { ListedTemplate } from './template-list.ts';
import type { Traced, TracedOperation } from './trace.ts';

/** What a create asks for. Two creates with one id must ask for the same, else the second is a conflict. */
export interface SandboxSpec extends EgressSettings {
  readonly sandboxId: string;
  /** Id or name of a template. */
  readonly templateId: string;
  /** On top of the template's own. */
  readonly envVars: Readonly<Record<string, string>>;
  /** Undefined: the guest agent asks for no token. */
  readonly accessToken: string | undefined;
  readonly allowInternetAccess: boolean;
  /** Of the control plane, kept in the record for it; nothing here reads them. */
  readonly notes?: string;
}

/** How a sandbox was asked for, for a control plane that has lost its own record. */
export interface SandboxOrigin {
  readonly notes: string | undefined;
  readonly hasAccessToken: boolean;
  readonly allowInternetAccess: boolean;
}

export interface PauseOptions {
  readonly memory: boolean;
  /** In place of those that there are. */
  readonly notes?: string | undefined;
}

export interface ResumeOptions {
  readonly memory: boolean;
  readonly notes?: string | undefined;
  /** In place of the one that there is. Missing: it stays. */
  readonly access?: { readonly token: string | undefined } | undefined;
}

export type SandboxState = 'starting' | 'running' | 'pausing' | 'paused' | 'resuming' | 'stopping' | 'gone';

/** What the host tells about a sandbox: no secrets, no paths. */
export interface SandboxInfo {
  readonly sandboxId: string;
  readonly templateId: string;
  readonly state: SandboxState;
  readonly vcpuCount: number;
  readonly memoryMib: number;
  readonly diskMib: number;
  readonly createdAtMs: number;
  readonly envdVersion: string;
  /** Why it is gone, or why a running one stands still; in plain words. */
  readonly reason: string | undefined;
  /** Of a paused one: its memory was kept. */
  readonly pausedMemory: boolean;
  /** Of a paused one: what is known to be damaged of it, in plain words. */
  readonly damage: string | undefined;
}

/** A copy that a fork is to make. */
export interface ForkCopy {
  readonly sandboxId: string;
  readonly accessToken: string | undefined;
  readonly notes?: string;
}

export type ForkOutcome = { readonly sandbox: SandboxInfo } | { readonly error: NestboxError };

/** The template that a snapshot becomes. One that is there under this id is replaced. */
export interface SnapshotSpec {
  readonly templateId: string;
  readonly names: readonly string[];
}

export interface SandboxActivity {
  /** Milliseconds since the epoch; now while something is under way. */
  readonly lastActivityAtMs: number;
  readonly runningCommands: number;
  readonly openConnections: number;
}

/** First the complete list, then each change. A slow watcher gets the newest state of a sandbox, not each one between. */
export type SandboxEvent =
  | { readonly kind: 'snapshot'; readonly sandboxes: readonly SandboxInfo[] }
  | { readonly kind: 'changed'; readonly sandbox: SandboxInfo };

export interface SandboxMetrics {
  readonly timestampMs: number;
  readonly cpuCount: number;
  readonly cpuUsedPct: number;
  readonly memUsedBytes: number;
  readonly memTotalBytes: number;
  readonly memCacheBytes: number;
  readonly diskUsedBytes: number;
  readonly diskTotalBytes: number;
}

/** Milliseconds since the epoch, both inclusive. More samples than `maxPoints` are averaged. */
export interface MetricRange {
  readonly startMs: number;
  readonly endMs: number;
  readonly maxPoints: number;
}

/** Where the proxy sends a sandbox's traffic. */
export interface SandboxTarget {
  readonly sandboxId: string;
  /** Reaches every port of the guest. */
  readonly address: string;
  /** Traffic counts as activity until the returned function is called. */
  beginActivity(): () => void;
}

export interface StopOptions {
  /** False (default for a restart): VMs go on running and are found again by the next host agent. Paused ones stay anyway. */
  readonly destroySandboxes: boolean;
}

/**
 * The sandboxes of this host. Every method is idempotent by sandbox id and throws NestboxError only. Requests for one
 * sandbox run one after another, those for different ones side by side.
 */
export interface SandboxManager {
  /**
   * Answers when the guest agent is ready and initialised. Repeating it joins the create under way, or answers the
   * running sandbox. The create belongs to the host, not to the caller: `signal` ends only the waiting for it.
   * Throws conflict (other spec under this id), sandbox_stopping, sandbox_paused, template_not_found, host_capacity,
   * host_disk_full, boot_timeout, vm_died, not_set_up.
   */
  create(spec: SandboxSpec, signal?: AbortSignal): Promise<Traced<SandboxInfo>>;
  /**
   * Writes a running sandbox to the disk and ends its VM; `memory: false` keeps the disk alone. Answers when it is safe on
   * the disk. When that fails the sandbox goes on running. Throws sandbox_not_found, sandbox_paused, sandbox_unreachable
   * (it does not run), host_disk_full, snapshot_limit, vm_died (then it is gone).
   */
  pause(sandboxId: string, options: PauseOptions): Promise<Traced<SandboxInfo>>;
  /**
   * Answers when the guest agent of a paused sandbox is ready again; a running one is answered as it is. `memory: false`
   * boots from the disk and forgets the memory. When it fails the sandbox stays paused. Throws sandbox_not_found,
   * snapshot_damaged, snapshot_incompatible, host_capacity, host_disk_full, and what a create throws.
   */
  resume(sandboxId: string, options: ResumeOptions): Promise<Traced<SandboxInfo>>;
  /**
   * Makes copies of a running sandbox, which stands still for a moment only. Outcomes are in the order of the copies. Throws
   * sandbox_not_found, sandbox_paused, sandbox_unreachable, conflict (the id of a copy is taken), host_disk_full; then there
   * are no copies.
   */
  fork(sandboxId: string, copies: readonly ForkCopy[]): Promise<Traced<readonly ForkOutcome[]>>;
  /** Makes a template of a running sandbox, memory included. Throws as `fork` does, and snapshot_limit. */
  snapshot(sandboxId: string, spec: SnapshotSpec): Promise<Traced<Template>>;
  /**
   * Says anew where a running sandbox may connect to: all of it, not what differs. Connections that stay allowed go on, others
   * end. Throws invalid_request and what `pause` throws for one that does not run; then everything is as it was.
   */
  setEgress(sandboxId: string, egress: EgressSettings): Promise<void>;
  /**
   * Sandboxes made of it keep what they need. False when there is no such template. Throws conflict for one that was built, unless it is
   * damaged.
   */
  deleteTemplate(idOrName: string): Promise<boolean>;
  /**
   * Makes the memory snapshots that templates of this host lack, one after another, then the VMs that are to wait. Calls back
   * before each snapshot.
   */
  prepareTemplates(onPrepare?: (template: Template) => void): Promise<void>;
  /** Throws sandbox_not_found, with the reason when the sandbox was here not long ago. */
  get(sandboxId: string): SandboxInfo;
  list(): readonly SandboxInfo[];
  /** Throws sandbox_not_found. */
  origin(sandboxId: string): SandboxOrigin;
  /** Ends a sandbox, also one that is starting. False when there was nothing to destroy. */
  destroy(sandboxId: string): Promise<boolean>;
  /** Ends when `signal` is aborted or the manager stops. */
  watch(signal: AbortSignal): AsyncIterable<SandboxEvent>;
  /** Calls back at once for each change, for what lives in this process; returns the undo. The listener must not throw. */
  onChange(listener: (sandbox: SandboxInfo) => void): () => void;
  metrics(sandboxId: string, signal?: AbortSignal): Promise<SandboxMetrics>;
  /**
   * The kept samples, oldest first; also of a paused sandbox, and for a while of one that has ended. Throws sandbox_not_found.
   */
  metricHistory(sandboxId: string, range: MetricRange): Promise<readonly MetricSample[]>;
  /** The newest kept sample of each of these that runs. */
  latestMetrics(sandboxIds: readonly string[]): Promise<ReadonlyMap<string, MetricSample>>;
  /** A part of a sandbox's log; also of a paused sandbox, and for a while of one that has ended. Throws sandbox_not_found. */
  logs(sandboxId: string, query: LogQuery): Promise<readonly LogEntry[]>;
  /** What tells an idle sandbox from a busy one. Of one that does not run: its last activity. */
  activity(sandboxId: string, signal?: AbortSignal): Promise<SandboxActivity>;
  /** Where the time of a sandbox's latest operations went, newest first. */
  operations(sandboxId: string): readonly TracedOperation[];
  /** Newest first, damaged ones too. */
  templates(): Promise<readonly ListedTemplate[]>;
  /** Ids of restored VMs that wait for a create of this template; a create under such an id gets that VM. */
  warmSandboxIds(templateId: string): readonly string[];
  /** How the creates since this manager began came out, copies of forks included. */
  createCounts(): { readonly succeeded: number; readonly failed: number };
  diskUsage(): Promise<DiskUsage>;
  /**
   * Begins to read whatever rests here (paused sandboxes, snapshots, templates), or goes on with it; `diskUsage` says when that has come to its end, and
   * what is damaged.
   */
  verifyDisk(): void;
  /** Throws what the proxy answers: sandbox_not_found, sandbox_unreachable (not running yet or any more), host_disk_full. */
  target(sandboxId: string): SandboxTarget;
  /** Milliseconds since the epoch of the last traffic through the proxy: now while there is some, at first the create. */
  lastActivityMs(sandboxId: string): number;
  stop(options: StopOptions): Promise<void>;
}
