import { type EgressSettings, ENVD_VERSION } from '@nestbox/contract';
import { type Lifecycle, LifecycleCell, type Machine } from './lifecycle.ts';
import type { GuestSettings, SandboxRecord, Situation } from './record.ts';
import type { SandboxInfo, SandboxSpec } from './sandbox.ts';

/** What a sandbox is. */
export interface SandboxIdentity {
  readonly spec: SandboxSpec;
  /** The template's id, where the spec may say a name. */
  readonly templateId: string;
  readonly vcpuCount: number;
  readonly memoryMib: number;
  readonly diskMib: number;
  readonly guest: GuestSettings;
  readonly createdAtMs: number;
}

/** One sandbox as this process knows it. What must outlive the process is in its record. */
export class LiveSandbox {
  #identity: SandboxIdentity;
  readonly #cell: LifecycleCell;
  #openActivities = 0;
  #lastActivityMs: number;
  /** Why its latest pause failed; undefined when it did not. */
  #pauseFailure: string | undefined;

  constructor(identity: SandboxIdentity, initial: Lifecycle, onChange: (sandbox: LiveSandbox) => void) {
    this.#identity = identity;
    this.#cell = new LifecycleCell(initial, () => onChange(this));
    this.#lastActivityMs = identity.createdAtMs;
  }

  get identity(): SandboxIdentity {
    return this.#identity;
  }

  /** To be called when the rules are in force and recorded. */
  changeEgress(egress: EgressSettings): void {
    this.#identity = withEgress(this.#identity, egress);
  }

  /** To be called only while nothing has been made by it. The id stays. */
  describe(identity: SandboxIdentity): void {
    this.#identity = identity;
  }

  /** What the next record is to say besides; undefined: what it said before. */
  note(notes: string | undefined): void {
    if (notes === undefined) return;
    this.#identity = { ...this.#identity, spec: { ...this.#identity.spec, notes } };
  }

  /** What the next guest agent of it shall ask for. */
  giveAccess(accessToken: string | undefined): void {
    this.#identity = { ...this.#identity, spec: { ...this.#identity.spec, accessToken } };
  }

  get id(): string {
    return this.identity.spec.sandboxId;
  }

  get lifecycle(): Lifecycle {
    return this.#cell.current;
  }

  transition(next: Lifecycle): void {
    this.#cell.transition(next);
    if (next.state === 'paused') this.#pauseFailure = undefined;
  }

  /** Answers whether the latest pause did not fail for the same reason. */
  failPause(reason: string): boolean {
    const isNews = this.#pauseFailure !== reason;
    this.#pauseFailure = reason;
    return isNews;
  }

  get lastActivityMs(): number {
    return this.#openActivities > 0 ? Date.now() : this.#lastActivityMs;
  }

  beginActivity(): () => void {
    this.#openActivities += 1;
    let open = true;
    return () => {
      if (!open) return;
      open = false;
      this.#openActivities -= 1;
      this.#lastActivityMs = Date.now();
    };
  }

  get info(): SandboxInfo {
    const { spec, guest: _, ...identity } = this.identity;
    const { lifecycle } = this;
    return {
      ...identity,
      sandboxId: spec.sandboxId,
      state: lifecycle.state,
      envdVersion: machineOf(lifecycle)?.envdVersion ?? ENVD_VERSION,
      reason: reasonOf(lifecycle),
      pausedMemory: 'paused' in lifecycle && lifecycle.paused.memory,
      damage: 'paused' in lifecycle ? lifecycle.paused.damage : undefined,
    };
  }
}

function machineOf(lifecycle: Lifecycle): Machine | undefined {
  if ('vm' in lifecycle) return lifecycle.vm.machine;
  return 'paused' in lifecycle ? lifecycle.paused.machine : undefined;
}

function reasonOf(lifecycle: Lifecycle): string | undefined {
  switch (lifecycle.state) {
    case 'starting':
    case 'pausing':
    case 'paused':
    case 'resuming':
      return undefined;
    case 'running':
      return lifecycle.stall?.reason;
    case 'stopping':
    case 'gone':
      return lifecycle.reason;
  }
}

export function identityFromRecord(record: SandboxRecord): SandboxIdentity {
  return {
    spec: {
      sandboxId: record.sandboxId,
      templateId: record.requestedTemplate,
      envVars: record.envVars,
      accessToken: record.accessToken,
      allowInternetAccess: record.allowInternetAccess,
      allowOut: record.allowOut,
      denyOut: record.denyOut,
      ...(record.notes === undefined ? {} : { notes: record.notes }),
    },
    templateId: record.templateId,
    vcpuCount: record.vcpuCount,
    memoryMib: record.memoryMib,
    diskMib: record.diskMib,
    guest: record.guest,
    createdAtMs: record.createdAtMs,
  };
}

/** What is written down of a sandbox. */
export function recordOf(identity: SandboxIdentity, situation: Situation): SandboxRecord {
  const { spec, ...rest } = identity;
  return {
    format: 2,
    sandboxId: spec.sandboxId,
    requestedTemplate: spec.templateId,
    ...rest,
    envVars: { ...spec.envVars },
    ...(spec.accessToken === undefined ? {} : { accessToken: spec.accessToken }),
    ...(spec.notes === undefined ? {} : { notes: spec.notes }),
    allowInternetAccess: spec.allowInternetAccess,
    allowOut: [...spec.allowOut],
    denyOut: [...spec.denyOut],
    situation,
  };
}

export function withEgress(identity: SandboxIdentity, egress: EgressSettings): SandboxIdentity {
  const { allowInternetAccess, allowOut, denyOut } = egress;
  return { ...identity, spec: { ...identity.spec, allowInternetAccess, allowOut, denyOut } };
}

/** Order of entries does not matter. */
function isSameEgress(a: EgressSettings, b: EgressSettings): boolean {
  const isSameList = (one: readonly string[], other: readonly string[]) =>
    one.toSorted().join('\n') === other.toSorted().join('\n');
  return (
    a.allowInternetAccess === b.allowInternetAccess &&
    isSameList(a.allowOut, b.allowOut) &&
    isSameList(a.denyOut, b.denyOut)
  );
}

/** Whether two creates ask for the same sandbox, whatever is noted of it. Order of variables does not matter; a template's id and name do. */
export function isSameSpec(a: SandboxSpec, b: SandboxSpec): boolean {
  const names = Object.keys(a.envVars);
  return (
    a.sandboxId === b.sandboxId &&
    a.templateId === b.templateId &&
    a.accessToken === b.accessToken &&
    isSameEgress(a, b) &&
    names.length === Object.keys(b.envVars).length &&
    names.every((name) => a.envVars[name] === b.envVars[name])
  );
}
