import type { KeyedMutex } from '@nestbox/kit';
import type { BootGate } from './boot-gate.ts';
import type { CreateCounts } from './create-counts.ts';
import type { DiskTidier } from './disk-tidier.ts';
import type { RunningVms } from './running-vms.ts';
import type { SandboxContext } from './sandbox-context.ts';
import type { SandboxTable } from './sandbox-table.ts';
import type { SnapshotRoom } from './snapshot-room.ts';
import type { TelemetryCollector } from './telemetry-collector.ts';
import type { TemplateSnapshots } from './template-snapshots.ts';
import type { WarmPool } from './warm-pool.ts';

/** What the verbs work with: the rooms, and what this process knows of its sandboxes. */
export interface HostState {
  readonly context: SandboxContext;
  readonly table: SandboxTable;
  /** One task at a time for each sandbox id. */
  readonly serial: KeyedMutex;
  readonly gate: BootGate;
  readonly counts: CreateCounts;
  readonly vms: RunningVms;
  readonly tidier: DiskTidier;
  readonly snapshots: TemplateSnapshots;
  readonly warm: WarmPool;
  readonly collector: TelemetryCollector;
  readonly room: SnapshotRoom;
  /** Aborted when the host agent stops. */
  readonly stopping: AbortSignal;
}
