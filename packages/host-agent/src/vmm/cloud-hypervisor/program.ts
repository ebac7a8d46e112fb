import { parseCloudHypervisorVersion } from './version.ts';

/** Cloud Hypervisor, as it is looked for. */
export const CLOUD_HYPERVISOR = {
  label: 'Cloud Hypervisor',
  binary: 'cloud-hypervisor',
  variable: 'NESTBOX_CLOUD_HYPERVISOR_BIN',
  parseVersion: parseCloudHypervisorVersion,
} as const;
