import { NestboxError } from '@nestbox/contract';

/** The release that is current when this is written, and the two before. */
const FIRST_MAJOR = 50;
const LAST_MAJOR = 52;
/** From here on `memory_restore_mode` is known. */
const ON_DEMAND_MAJOR = 52;

export interface CloudHypervisorVersion {
  /** E.g. `52.0`. */
  readonly text: string;
  readonly major: number;
  /** Whether a restore can begin before the memory is read. */
  readonly restoresOnDemand: boolean;
}

/** Reads what `cloud-hypervisor --version` prints. Throws not_supported for another program or a version that is not known to work. */
export function parseCloudHypervisorVersion(output: string): CloudHypervisorVersion {
  const [, text, digits] = /^cloud-hypervisor v((\d+)\.\d+(?:\.\d+)?)/m.exec(output) ?? [];
  if (text === undefined)
    throw new NestboxError(
      'not_supported',
      `This is no Cloud Hypervisor; it says of itself: ${output.slice(0, 100).trim()}`,
    );
  const major = Number(digits);
  if (major < FIRST_MAJOR || major > LAST_MAJOR)
    throw new NestboxError(
      'not_supported',
      `Cloud Hypervisor ${text} is not supported; versions ${FIRST_MAJOR} to ${LAST_MAJOR} are.`,
    );
  return { text, major, restoresOnDemand: major >= ON_DEMAND_MAJOR };
}
