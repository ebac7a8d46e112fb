import {
  type CloudHypervisorDriverOptions,
  createCloudHypervisorDriver,
} from '../cloud-hypervisor/cloud-hypervisor-driver.ts';
import type { VmDriver } from '../driver.ts';
import { type StandInDriver, standInOptions } from './stand-in-bench.ts';

/** The driver with the stand-in in place of Cloud Hypervisor. */
export function createStandInCloudHypervisor(
  standIn: StandInDriver,
  options: Partial<CloudHypervisorDriverOptions> = {},
): VmDriver {
  return createCloudHypervisorDriver({ ...standInOptions('cloud-hypervisor', standIn), ...options });
}
