import type { Logger } from '@nestbox/kit';
import type { GuestClientFactory } from '../guest/guest-client.ts';
import type { SandboxNetworks } from '../network/network.ts';
import type { CurrentImages } from '../storage/images-file.ts';
import type { HostLayout } from '../storage/layout.ts';
import type { SandboxRecordStore } from '../storage/sandbox-records.ts';
import type { TemplateStore } from '../storage/template-store.ts';
import type { VmDriver } from '../vmm/driver.ts';
import type { HostLimits } from './host-limits.ts';
import type { SandboxRecord } from './record.ts';

/** The rooms that the manager composes. */
export interface SandboxContext {
  readonly driver: VmDriver;
  readonly networks: SandboxNetworks;
  readonly layout: HostLayout;
  readonly records: SandboxRecordStore<SandboxRecord>;
  readonly templates: TemplateStore;
  /** Throws NestboxError not_set_up. */
  readonly currentImages: () => Promise<CurrentImages>;
  readonly guestClient: GuestClientFactory;
  readonly limits: HostLimits;
  readonly logger: Logger;
}
