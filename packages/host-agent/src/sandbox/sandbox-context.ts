import type { Logger } from '@nestbox/kit';
import type { GuestClientFactory } from '../guest/guest-client.ts';
import type { SandboxNetworks } from '../network/network.ts';
import type { CurrentImages } from '../storage/images-file.ts';
import type { HostLayout } from '../storage/layout.ts';
import type { SandboxRecordStore } from '../storage/sandbox-records.ts';
import type { TemplateStore } from '../storage/template-store.ts';
import type { Telemetry } from '../telemetry/telemetry.ts';
import type { VmDriver } from '../vmm/driver.ts';
import type { DiskGuard } from './disk-guard.ts';
import type { DiskNotes } from './disk-notes.ts';
import type { HostLimits } from './host-limits.ts';
import type { ImageGuard } from './image-guard.ts';
import type { SandboxRecord } from './record.ts';
import type { RootDisks } from './root-disks.ts';

/** The rooms that the manager composes. */
export interface SandboxContext {
  readonly driver: VmDriver;
  readonly networks: SandboxNetworks;
  readonly layout: HostLayout;
  readonly records: SandboxRecordStore<SandboxRecord>;
  readonly templates: TemplateStore;
  readonly disks: RootDisks;
  readonly imageGuard: ImageGuard;
  readonly diskGuard: DiskGuard;
  readonly diskNotes: DiskNotes;
  /** Throws NestboxError not_set_up. */
  readonly currentImages: () => Promise<CurrentImages>;
  readonly guestClient: GuestClientFactory;
  readonly traffic: SandboxTraffic;
  readonly telemetry: Telemetry;
  readonly limits: HostLimits;
  /** False: every create boots. */
  readonly useSnapshots: boolean;
  /** How long a create waits for a snapshot of its template that is being made; then it boots. */
  readonly snapshotWaitMs: number;
  readonly logger: Logger;
}

/** What passes to sandboxes from outside. */
export interface SandboxTraffic {
  /** Lets in nothing more, and resolves when what is under way has ended or had its time. */
  drain(sandboxId: string): Promise<void>;
  /** Lets traffic in again. */
  admit(sandboxId: string): void;
}
