import type { Template } from '../storage/template-store.ts';

/** What a create asks for. Two creates with one id must ask for the same, else the second is a conflict. */
export interface SandboxSpec {
  readonly sandboxId: string;
  /** Id or name of a template. */
  readonly templateId: string;
  /** On top of the template's own. */
  readonly envVars: Readonly<Record<string, string>>;
  /** Undefined: the guest agent asks for no token. */
  readonly accessToken: string | undefined;
  readonly allowInternetAccess: boolean;
}

export type SandboxState = 'starting' | 'running' | 'stopping' | 'gone';

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

/** Where the proxy sends a sandbox's traffic. */
export interface SandboxTarget {
  readonly sandboxId: string;
  /** Reaches every port of the guest. */
  readonly address: string;
  /** Traffic counts as activity until the returned function is called. */
  beginActivity(): () => void;
}

export interface StopOptions {
  /** False (default for a restart): VMs go on running and are found again by the next host agent. */
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
   * Throws conflict (other spec under this id), sandbox_stopping, template_not_found, host_capacity, host_disk_full,
   * boot_timeout, vm_died, not_set_up.
   */
  create(spec: SandboxSpec, signal?: AbortSignal): Promise<SandboxInfo>;
  /** Throws sandbox_not_found, with the reason when the sandbox was here not long ago. */
  get(sandboxId: string): SandboxInfo;
  list(): readonly SandboxInfo[];
  /** Ends a sandbox, also one that is starting. False when there was nothing to destroy. */
  destroy(sandboxId: string): Promise<boolean>;
  /** Ends when `signal` is aborted or the manager stops. */
  watch(signal: AbortSignal): AsyncIterable<SandboxEvent>;
  /** Calls back at once for each change, for what lives in this process; returns the undo. The listener must not throw. */
  onChange(listener: (sandbox: SandboxInfo) => void): () => void;
  metrics(sandboxId: string, signal?: AbortSignal): Promise<SandboxMetrics>;
  templates(): Promise<readonly Template[]>;
  /** Throws what the proxy answers: sandbox_not_found, sandbox_unreachable (not running yet or any more), host_disk_full. */
  target(sandboxId: string): SandboxTarget;
  /** Milliseconds since the epoch of the last traffic through the proxy: now while there is some, at first the create. */
  lastActivityMs(sandboxId: string): number;
  stop(options: StopOptions): Promise<void>;
}
